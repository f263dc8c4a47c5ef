"""Scaled dot-product attention. B batch, L length, D width."""

from detr_jittor.jt.kernels.fast.library import apply, run
from detr_jittor.jt.setup.runtime import jt


class Attention(jt.Function):
    def execute(self, q, k, v, mask, nheads, p, key):
        b, lq, _ = q.shape
        mask = [] if mask is None else [mask]
        numbers = nheads, p, key, len(mask)
        sums = [] if jt.flags.no_grad else [(b, nheads, lq, 2)]
        y, *sums = run("attention", [q, k, v, *mask], [q.shape, *sums], *numbers)
        self.saved = q, k, v, sums, mask, numbers
        return y

    def grad(self, dy):
        q, k, v, sums, mask, numbers = self.saved
        grads = run("attention_backward", [q, k, v, *sums, dy, *mask], [q.shape, k.shape, v.shape], *numbers)
        return *(g if self.input_mask[i] >= 0 else None for i, g in enumerate(grads)), None, None, None, None


def attention(q, k, v, key_padding_mask, nheads: int, p: float, key: int):
    """Scaled dot-product attention.

    Args: q [B, Lq, D], k and v [B, Lk, D], key_padding_mask [B, Lk] bool or None, true where a key is ignored;
        p, key: dropout on the attention weights, indexed as [B, heads, Lq, Lk].

    Returns: [B, Lq, D]; zero where every key is ignored.
    """
    return apply(Attention, q, k, v, key_padding_mask, nheads, p, key)
