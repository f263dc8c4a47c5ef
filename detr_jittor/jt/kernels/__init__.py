"""What Jittor lacks on this hardware. The model calls `kernels.attention(…)`; here is decided which one serves.

Each twin has a choice of its own, and puts it in force before it computes.
"""

from detr_jittor.errors import DetrError
from detr_jittor.jt.kernels import cuda, fast, plain
from detr_jittor.jt.setup import runtime
from detr_jittor.jt.setup.runtime import jt


class Kernels:
    """A choice: those for the device in use where they can serve, unless only the plain ones are wanted. It is in force
    at once.

    Attributes: words: which ones they are.

    Errors: DetrError if bfloat16 is to be multiplied and cannot be.
    """

    def __init__(self, plain_only: bool = False, bfloat16: bool = False):
        on_card = jt.flags.use_cuda and not plain_only
        reason = "as asked" if plain_only else fast.unavailable()  # why they are not the fast ones
        self.module, self.bfloat16 = cuda if on_card else plain if reason else fast, bfloat16
        self.words = ("CUDA, not yet tried on a card" if on_card else
                      f"plain Jittor operators ({reason})" if reason else "oneDNN" + ", bfloat16" * bfloat16)
        try:
            able = self.serve()  # which compiles them
        finally:
            runtime.end_pool()
        if bfloat16 and (reason or not able):
            reason = "the kernels for a card have none" if on_card else reason or "the processor lacks AVX512-BF16"
            raise DetrError(f"no bfloat16 here: {reason}.", "Use float32.")

    def serve(self) -> bool:
        """Put this choice in force. Returns: whether the kernels can do what it asks for."""
        global in_force
        if in_force is self:
            return True
        jt.sync_all()  # what another twin has asked for is computed as that one has chosen
        in_force = self
        return self.module is not fast or fast.multiply_bfloat16(self.bfloat16)


in_force: Kernels | None = None


def __getattr__(name: str):
    return getattr(in_force.module if in_force else plain, name)
