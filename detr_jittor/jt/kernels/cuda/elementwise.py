"""Dropout, where it stands alone and in the feed-forward pair, and AdamW. B batch, L length, D width."""

import numpy as np

from detr_jittor.jt.kernels.cuda.library import run
from detr_jittor.jt.kernels.fast.library import apply
from detr_jittor.jt.kernels.plain import linear
from detr_jittor.jt.setup.runtime import jt

PARTS = 1024  # of a gradient, whose squares are summed at the same time
AT_ONCE = 64  # parameters; Jittor names the inputs of a code operator with three digits


class Dropout(jt.Function):
    def execute(self, x, p, key):
        self.numbers = p, key
        return run("dropout", "dropout", [x], [x.shape], p, key)[0]

    def grad(self, dy):
        return run("dropout", "dropout", [dy], [dy.shape], *self.numbers)[0], None, None


def dropout(x, p: float, key: int):
    """Zero the elements that `seeding.keep_mask` drops and scale the others by 1 / (1 - p)."""
    return apply(Dropout, x, p, key) if p > 0 else x


def feed_forward(x, w1, b1, w2, b2, p: float, key: int):
    """Linear, ReLU, dropout, linear: [B, L, D] → [B, L, D]"""
    return linear(dropout(linear(x, w1, b1, relu=True), p, key), w2, b2)


def adamw_step(parameters, gradients, exp_avg, exp_avg_sq, lrs, weight_decay, step, clip_max_norm) -> float:
    """See `plain.adamw_step`."""
    parts = [slice(first, first + AT_ONCE) for first in range(0, len(parameters), AT_ONCE)]
    squares = [run("adamw", "squares", gradients[part], [(len(gradients[part]), PARTS)], dtype="float64")[0]
               for part in parts]
    norm = float(np.sqrt(jt.concat(squares).sum().item()))
    if not np.isfinite(norm):
        return norm
    clip = min(1.0, clip_max_norm / (norm + 1e-6)) if clip_max_norm else 1.0
    for part in parts:
        old = [*parameters[part], *exp_avg[part], *exp_avg_sq[part]]
        new = run("adamw", "adamw", [*old, *gradients[part]], [x.shape for x in old], weight_decay, step, clip,
                  *lrs[part])
        for before, after in zip(old, new):
            before.update(after.detach())
        jt.sync_all()  # now, so that the old ones go before the next ones come
    return norm
