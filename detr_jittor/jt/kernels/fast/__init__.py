"""The kernels on oneDNN and our own C++ (cc/), for x86-64 processors. Their reference is ../plain.py."""

from detr_jittor.jt.kernels.fast.attention import attention
from detr_jittor.jt.kernels.fast.batch_norm import conv_batch_norm
from detr_jittor.jt.kernels.fast.convolution import conv_norm, enter, leave, max_pool, multiply_bfloat16
from detr_jittor.jt.kernels.fast.elementwise import adamw_step, dropout, fork, group_norm, layer_norm
from detr_jittor.jt.kernels.fast.library import reference_primitives, unavailable
from detr_jittor.jt.kernels.fast.linear import feed_forward, linear, projections
from detr_jittor.jt.kernels.fast.parts import concat, entries, split
from detr_jittor.jt.kernels.fast.sampling import from_heads, sampled_attention, sine, to_heads

__all__ = ["adamw_step", "attention", "concat", "conv_batch_norm", "conv_norm", "dropout", "enter", "entries",
           "feed_forward", "fork", "from_heads", "group_norm", "layer_norm", "leave", "linear", "max_pool",
           "multiply_bfloat16", "projections", "reference_primitives", "sampled_attention", "sine", "split", "to_heads",
           "unavailable"]
