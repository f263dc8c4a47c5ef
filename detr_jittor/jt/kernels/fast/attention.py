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

    Args: q [B, Lq, D], k [B, Lk, D] and v [B, Lk, E], key_padding_mask [B, Lk] bool or None, true where a key is
        ignored; p, key: dropout on the attention weights, indexed as [B, heads, Lq, Lk].

    Returns: [B, Lq, E]; zero where every key is ignored.
    """
    b, lk, e = v.shape
    if e < q.shape[2]:  # the kernel has one width: each head's values with zeros behind them
        v = v.reshape(b, lk, nheads, e // nheads)
        v = jt.concat([v, jt.zeros((b, lk, nheads, (q.shape[2] - e) // nheads)).stop_grad()], 3).reshape(k.shape)
        y = apply(Attention, q, k, v, key_padding_mask, nheads, p, key)
        return y.reshape(b, q.shape[1], nheads, -1)[:, :, :, :e // nheads].reshape(b, q.shape[1], e)
    return apply(Attention, q, k, v, key_padding_mask, nheads, p, key)
