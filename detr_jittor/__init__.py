"""DETR (arXiv 2005.12872) in Jittor, with a PyTorch twin that proves the port."""

__version__ = "0.1.0"
