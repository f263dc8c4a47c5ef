"""The kernels in CUDA (cu/), for NVIDIA's cards. What is missing here serves in plain operators, ../plain.py, which are
also the reference; matrix products and convolutions are cuBLAS's and cuDNN's.

No card was at hand: the sources were compiled, and run on a processor (tests/jt/emulation.h).
"""

from detr_jittor.jt.kernels.cuda.attention import attention, sampled_attention
from detr_jittor.jt.kernels.cuda.elementwise import adamw_step, dropout, feed_forward
from detr_jittor.jt.kernels.cuda.norm import conv_norm, layer_norm
from detr_jittor.jt.kernels.plain import (
    concat,
    conv_batch_norm,
    enter,
    entries,
    fork,
    from_heads,
    group_norm,
    leave,
    linear,
    max_pool,
    projections,
    sine,
    split,
    to_heads,
)

__all__ = ["adamw_step", "attention", "concat", "conv_batch_norm", "conv_norm", "dropout", "enter", "entries",
           "feed_forward", "fork", "from_heads", "group_norm", "layer_norm", "leave", "linear", "max_pool",
           "projections", "sampled_attention", "sine", "split", "to_heads"]
