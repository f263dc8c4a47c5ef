"""What Jittor lacks on this hardware. The model calls `kernels.attention(…)`; here is decided which one serves."""

from detr_jittor.jt.kernels import fast, plain

serving = plain


def use(plain_only: bool = False) -> str:
    """Choose the kernels: the fast ones where they can serve, unless only the plain ones are wanted.

    Returns: which ones serve from now on, in words.
    """
    global serving
    reason = "as asked" if plain_only else fast.unavailable()
    serving = plain if reason else fast
    return f"plain Jittor operators ({reason})" if reason else "oneDNN"


def __getattr__(name: str):
    return getattr(serving, name)
