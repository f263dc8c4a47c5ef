"""Convolution + batch norm + residual + ReLU in oneDNN's blocked layout.

Between `enter` and `leave` a Var of shape [B, C, H, W] lies in memory as [B, C / 16, H, W, 16], wherever C is a
multiple of 16 (8 without AVX-512). Element by element, sums and gradients do not notice. Where bfloat16 is multiplied,
activations are of that type too, as they are rounded for the next convolution anyway; gradients are float32.
B batch, C channels, H and W height and width.
"""

from detr_jittor.jt.kernels.fast.library import apply, is_kept, run
from detr_jittor.jt.setup.runtime import jt

activations = "float32"  # what convolutions write


def enter(x):
    """Begin a region of convolutions. Pictures have three channels: they stay as they are, and need no gradient."""
    return x if x.shape[1] % 16 else apply(ToBlocked, x)


def leave(x):
    """End a region of convolutions → [B, C, H, W]"""
    return apply(FromBlocked, x)


class ToBlocked(jt.Function):
    def execute(self, x):
        return run("to_blocked", [x], [x.shape])[0]

    def grad(self, dy):
        return run("from_blocked", [dy], [dy.shape])[0]


class FromBlocked(jt.Function):
    def execute(self, x):
        return run("from_blocked", [x], [x.shape])[0]

    def grad(self, dy):
        return run("to_blocked", [dy], [dy.shape])[0]


class MaxPool(jt.Function):
    """3×3, stride 2, padding 1 → [B, C, H / 2, W / 2]"""

    def execute(self, x):
        b, c, h, w = x.shape
        y = run("max_pool", [x], [(b, c, (h + 1) // 2, (w + 1) // 2)], dtype=x.dtype)[0]
        self.saved = x, y
        return y

    def grad(self, dy):
        x, y = self.saved
        return run("max_pool_backward", [x, y, dy], [x.shape])[0]


class ConvNorm(jt.Function):
    """ReLU(norm(conv(x)) + residual); the norm's tensors, if any, have no gradient → [B, C', H', W']"""

    def execute(self, x, weight, residual, geometry, relu, kept, dtype, *norm):
        inputs = [x, weight, *norm] + ([] if residual is None else [residual])
        y = run("convolution", inputs, [output_shape(x, weight, *geometry)], *geometry, relu, kept, dtype=dtype)[0]
        self.saved = x, weight, norm, y, geometry, relu
        return y

    def grad(self, dy):
        x, weight, norm, y, geometry, relu = self.saved
        wants_x, wants_weight, wants_residual = (self.input_mask[i] >= 0 for i in range(3))
        wants_x = wants_x and x.shape[1] % 16 == 0  # pictures need no gradient, and Jittor asks for it all the same
        shapes = [x.shape] * wants_x + [weight.shape] * wants_weight + [y.shape] * (wants_residual and relu)
        grads = iter(run("convolution_backward", [x, weight, *norm, dy] + [y] * relu, shapes, *geometry,
                         wants_x, wants_weight, wants_residual))
        dx = next(grads) if wants_x else None
        dweight = next(grads) if wants_weight else None
        dresidual = (next(grads) if relu else dy) if wants_residual else None
        return dx, dweight, dresidual, None, None, None, None, *(None for _ in norm)


def output_shape(x, weight, stride: int, padding: int, dilation: int) -> tuple:
    b, _, h, w = x.shape
    outputs, _, k, _ = weight.shape
    h, w = ((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n in (h, w))
    return b, outputs, h, w


def conv_norm(x, weight, norm, stride, padding, dilation, residual=None, relu=True, dtype=None):
    """ReLU(norm(conv(x)) + residual) → [B, C', H', W']

    Args:
        norm: weight, bias, mean and variance [C'] of a batch norm, without gradients, or () for none.
        dtype: what is written, `activations` if nothing is said.
    """
    geometry = stride, padding, dilation
    return apply(ConvNorm, x, weight, residual, geometry, relu, is_kept(weight), dtype or activations, *norm)


def max_pool(x):
    """3×3, stride 2, padding 1 → [B, C, H / 2, W / 2]"""
    return apply(MaxPool, x)


def multiply_bfloat16(wanted: bool) -> bool:
    """Let convolutions and linear layers multiply bfloat16 from now on; sums and weights stay float32.

    Returns: False if this processor has no bfloat16 (AVX512-BF16): then nothing was changed.
    """
    global activations
    jt.sync_all()  # what waits is still for the old precision
    done = bool(run("multiply_bfloat16", [jt.zeros(1)], [(1,)], wanted)[0].item())
    if done:
        activations = "bfloat16" if wanted else "float32"
    return done
