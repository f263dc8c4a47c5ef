"""The layers that Jittor's own would serve less well: exact norms, linear layers on our kernels, resizing of maps."""

import numpy as np

from detr_jittor.jt import kernels
from detr_jittor.jt.kernels.plain import spread
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin import interpolation

nn = jt.nn


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        self.weight = jt.zeros((outputs, inputs))
        if bias:
            self.bias = jt.zeros((outputs,))

    def execute(self, x, relu: bool = False):
        bias = vars(self).get("bias")
        return kernels.linear(x, self.weight, jt.zeros(self.weight.shape[:1]).stop_grad() if bias is None else bias,
                              relu)


class Conv1x1(nn.Module):
    """A 1×1 convolution with a bias: a linear layer over the channels."""

    def __init__(self, inputs: int, outputs: int):
        self.weight = jt.zeros((outputs, inputs, 1, 1))
        self.bias = jt.zeros((outputs,))

    def execute(self, x):
        """[B, C, H, W] → [B, C', H, W]"""
        b, c, h, w = x.shape
        rows = x.reshape(b, c, h * w).transpose(0, 2, 1)  # [B, H·W, C]
        y = kernels.linear(rows, self.weight, self.bias)
        return y.transpose(0, 2, 1).reshape(b, -1, h, w)


class LayerNorm(nn.Module):
    def __init__(self, dim: int):
        self.weight = jt.ones((dim,))
        self.bias = jt.zeros((dim,))

    def execute(self, x):
        return kernels.layer_norm(x, self.weight, self.bias)


class GroupNorm(nn.Module):
    def __init__(self, groups: int, channels: int):
        self.groups = groups
        self.weight = jt.ones((channels,))
        self.bias = jt.zeros((channels,))

    def execute(self, x):
        """[N, C, H, W] → [N, C, H, W]"""
        return kernels.group_norm(x, self.weight, self.bias, self.groups)


class Conv2d(nn.Conv2d):
    """nn.Conv2d, but the gradient of its bias is summed axis by axis."""

    def execute(self, x):
        """[N, C, H, W] → [N, C', H', W']"""
        y = nn.conv2d(x, self.weight, None, self.stride, self.padding)
        return y + spread(self.bias, y.shape)


def softplus(x):
    """log(1 + eˣ), exact for large x too"""
    return jt.maximum(x, 0) + jt.log(1 + jt.exp(-jt.abs(x)))


def pick(x, axis: int, places: np.ndarray):
    """The slices of `x` at these places of an axis, as NumPy's take."""
    shape, indices = list(x.shape), [f"i{i}" for i in range(x.ndim)]
    shape[axis], indices[axis] = len(places), f"@e0(i{axis})"
    return x.reindex(shape, indices, extras=[jt.array(places.astype(np.int32))])


def stretch(x, axis: int, size: int):
    """An axis at another size, linearly between the middles of the pixels."""
    low, high, share = interpolation.linear(x.shape[axis], size, np.arange(size))
    share = share.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return pick(x, axis, low) * jt.array(1 - share) + pick(x, axis, high) * jt.array(share)


def set_training(model: nn.Module, training: bool) -> None:
    """Switch between training and evaluation.

    TRAP(jittor): eval-stops-gradients. Module.eval() stops the gradients of all parameters, and train() restores
    them by the Python id of a Var, which another Var may have by then. So neither is called.
    """
    if vars(model).get("is_train") != training:  # all modules agree: it is set here alone
        for module in model.modules():
            module.is_train = training
