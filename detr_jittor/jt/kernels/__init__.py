"""What Jittor lacks on this hardware. The model calls `kernels.attention(…)`; here is decided which one serves."""

from detr_jittor.errors import DetrError
from detr_jittor.jt.kernels import fast, plain
from detr_jittor.jt.setup import runtime

serving = plain


def use(plain_only: bool = False, bfloat16: bool = False) -> str:
    """Choose the kernels: the fast ones where they can serve, unless only the plain ones are wanted.

    Returns: which ones serve from now on, in words.
    Errors: DetrError if bfloat16 is to be multiplied and cannot be.
    """
    global serving
    reason = "as asked" if plain_only else fast.unavailable()
    able = not reason and fast.multiply_bfloat16(bfloat16)  # which compiles them
    runtime.end_pool()
    if bfloat16 and not able:
        raise DetrError(f"no bfloat16 here: {reason or 'the processor lacks AVX512-BF16'}.", "Use float32.")
    serving = plain if reason else fast
    return f"plain Jittor operators ({reason})" if reason else "oneDNN" + ", bfloat16" * bfloat16


def __getattr__(name: str):
    return getattr(serving, name)
