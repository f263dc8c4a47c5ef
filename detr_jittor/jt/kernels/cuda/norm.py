"""Layer norm, and frozen batch norm with what follows it. B batch, C channels, D width."""

from detr_jittor.jt.kernels.cuda.library import run
from detr_jittor.jt.kernels.fast.library import apply
from detr_jittor.jt.kernels.plain import conv2d, finish
from detr_jittor.jt.setup.runtime import jt

GROUPS = 64  # of rows, whose gradients of weight and bias are summed at the same time


class LayerNorm(jt.Function):
    def execute(self, x, weight, bias):
        y, statistics = run("norm", "layer_norm", [x, weight, bias], [x.shape, (x.numel() // x.shape[-1], 2)])
        self.saved = x, weight, statistics
        return y

    def grad(self, dy):
        x, weight, statistics = self.saved
        groups = min(GROUPS, statistics.shape[0])
        dx, sums = run("norm", "layer_norm_backward", [x, weight, statistics, dy], [x.shape, (groups, 2, x.shape[-1])])
        sums = sums.sum(0)
        grads = dx, sums[0], sums[1]
        return tuple(g if self.input_mask[i] >= 0 else None for i, g in enumerate(grads))


class FrozenNorm(jt.Function):
    """ReLU(norm(x) + residual), whose norm has no gradient → [B, C, H, W]"""

    def execute(self, x, residual, relu, *norm):
        y = run("norm", "frozen_norm", [x, *norm] + ([] if residual is None else [residual]), [x.shape], relu)[0]
        self.saved = norm, [y] if relu else []
        return y

    def grad(self, dy):
        norm, y = self.saved
        wants_residual = self.input_mask[1] >= 0
        dx, *dresidual = run("norm", "frozen_norm_backward", [dy, *norm, *y], [dy.shape] * (1 + wants_residual))
        return (dx if self.input_mask[0] >= 0 else None, dresidual[0] if wants_residual else None, None,
                *(None for _ in norm))


def layer_norm(x, weight, bias):
    """[..., D] → [..., D]"""
    return apply(LayerNorm, x, weight, bias)


def conv_norm(x, weight, norm, stride, padding, dilation, residual=None, relu=True):
    """See `plain.conv_norm`."""
    y = conv2d(x, weight, stride, padding, dilation)
    return apply(FrozenNorm, y, residual, relu, *norm) if norm else finish(y, residual, relu)
