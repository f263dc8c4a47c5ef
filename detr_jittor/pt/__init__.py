"""The PyTorch twin. Whatever imports a file of this room comes by here first, before torch is loaded."""

from detr_jittor.twin import processor, threads

processor.prepare()
threads.prepare()
