"""What Jittor lacks on this hardware. The model calls `kernels.attention(…)`; here is decided which one serves."""

from detr_jittor.jt.kernels import plain

serving = plain


def __getattr__(name: str):
    return getattr(serving, name)
