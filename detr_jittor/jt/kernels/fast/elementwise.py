"""Dropout, norms, fork and AdamW. D width, G groups of C channels."""

from detr_jittor.jt.kernels.fast.library import apply, run
from detr_jittor.jt.setup.runtime import jt


class Dropout(jt.Function):
    def execute(self, x, p, key):
        self.numbers = p, key
        return run("dropout", [x], [x.shape], p, key)[0]

    def grad(self, dy):
        return run("dropout", [dy], [dy.shape], *self.numbers)[0], None, None


class LayerNorm(jt.Function):
    def execute(self, x, weight, bias):
        rows = x.numel() // x.shape[-1]
        y, statistics = run("layer_norm", [x, weight, bias], [x.shape, (rows, 2)])
        self.saved = x, weight, statistics
        return y

    def grad(self, dy):
        x, weight, statistics = self.saved
        grads = run("layer_norm_backward", [x, weight, statistics, dy], [x.shape, weight.shape, weight.shape])
        return tuple(g if self.input_mask[i] >= 0 else None for i, g in enumerate(grads))


class GroupNorm(jt.Function):
    def execute(self, x, weight, bias, groups):
        y, statistics = run("group_norm", [x, weight, bias], [x.shape, (len(x) * groups, 2)], groups)
        self.saved = x, weight, statistics
        return y

    def grad(self, dy):
        x, weight, statistics = self.saved
        grads = run("group_norm_backward", [x, weight, statistics, dy], [x.shape, weight.shape, weight.shape])
        return *(g if self.input_mask[i] >= 0 else None for i, g in enumerate(grads)), None


class Fork(jt.Function):
    def execute(self, x):
        return x, x

    def grad(self, one, other):
        return run("add", [one, other], [one.shape])[0]


def fork(x):
    """x twice, for two uses: their gradients are summed by all threads, where Jittor's own sum has one."""
    return apply(Fork, x)


def dropout(x, p: float, key: int):
    """Zero the elements that `seeding.keep_mask` drops and scale the others by 1 / (1 - p)."""
    return apply(Dropout, x, p, key) if p > 0 else x


def layer_norm(x, weight, bias):
    """[..., D] → [..., D]"""
    return apply(LayerNorm, x, weight, bias)


def group_norm(x, weight, bias, groups: int):
    """[N, C, H, W] → [N, C, H, W]"""
    return apply(GroupNorm, x, weight, bias, groups)


def adamw_step(parameters, gradients, exp_avg, exp_avg_sq, lrs, weight_decay, step, clip_max_norm) -> float:
    """Clip all gradients by their global norm and update the parameters in place (arXiv 1711.05101).

    Args: lists of Vars, the learning rate of each; step counts from 1; clip_max_norm 0: no clipping.

    Returns: the norm before clipping. If it is not finite, nothing is updated.
    """
    jt.sync_all()  # the memory itself is written: whatever waits to read the old weights must have done so
    norm = run("adamw", [*parameters, *gradients, *exp_avg, *exp_avg_sq], [(1,)],
               len(parameters), weight_decay, step, clip_max_norm, *lrs)[0]
    return norm.item()
