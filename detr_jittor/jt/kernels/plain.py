"""The kernels in plain Jittor operators: the reference of the fast ones, and what serves where those cannot.

B batch, L length, D width.
"""

import operator
from functools import reduce

import numpy as np

from detr_jittor.jt.setup.runtime import jt

nn = jt.nn


def enter(x):
    """Begin a region of convolutions: here the layout stays [B, C, H, W]."""
    return x


def leave(x):
    """End a region of convolutions → [B, C, H, W]"""
    return x


def conv2d(x, weight, stride, padding, dilation):
    """[B, C, H, W] and [C', C, k, k] → [B, C', H', W']

    TRAP(jittor): long-sums. On a CPU all C · k² products are one float32 sum, which makes its error up to 3.6
    times PyTorch's: so in parts as long as there, 144 products of a 3×3 filter.
    """
    pieces = in_parts(x.shape[1], max(150 // weight.shape[2] ** 2, 1))
    if len(pieces) == 1:
        return nn.conv2d(x, weight, None, stride, padding, dilation)
    return reduce(operator.add, (nn.conv2d(x[:, p], weight[:, p], None, stride, padding, dilation) for p in pieces))


def in_parts(channels: int, part: int) -> list[slice]:
    """The channels of the parts of a sum of products; on a GPU one, whose own sums are short ones."""
    part = channels if jt.flags.use_cuda else part
    return [slice(start, start + part) for start in range(0, channels, part)]


def conv_norm(x, weight, norm, stride, padding, dilation, residual=None, relu=True):
    """ReLU(norm(conv(x)) + residual) → [B, C', H', W']

    Args: norm: weight, bias, mean and variance [C'] of a batch norm, without gradients, or () for none.
    """
    y = conv2d(x, weight, stride, padding, dilation)
    if norm:
        gamma, beta, mean, var = (t.detach() for t in norm)
        scale = gamma / jt.sqrt(var + 1e-5)
        y = y * scale.reshape(1, -1, 1, 1) + (beta - mean * scale).reshape(1, -1, 1, 1)
    return finish(y, residual, relu)


def conv_batch_norm(x, weight, gamma, beta, running_mean, running_var, stride, padding, dilation, training,
                    residual=None, relu=True, momentum=0.1):
    """ReLU(batch_norm(conv(x)) + residual) with trainable batch norm → [B, C', H', W']

    In training the running statistics move towards the batch's mean and unbiased variance, as in PyTorch.
    """
    y = conv2d(x, weight, stride, padding, dilation)
    if training:
        n = y.numel() // y.shape[1]
        mean = y.mean((0, 2, 3))
        centred = y - mean.reshape(1, -1, 1, 1)
        var = (centred * centred).mean((0, 2, 3))
        running_mean.update(running_mean + momentum * (mean.detach() - running_mean))
        running_var.update(running_var + momentum * (var.detach() * (n / max(n - 1, 1)) - running_var))
    else:
        centred = y - running_mean.reshape(1, -1, 1, 1)
        var = running_var
    scale = gamma / jt.sqrt(var + 1e-5)
    return finish(centred * scale.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1), residual, relu)


def finish(y, residual, relu):
    if residual is not None:
        y = y + residual
    return nn.relu(y) if relu else y


def fork(x):
    """x twice, for two uses"""
    return x, x


def max_pool(x):
    """3×3, stride 2, padding 1 → [B, C, H / 2, W / 2]"""
    return nn.max_pool2d(x, 3, 2, 1)


def linear(x, weight, bias, relu=False):
    """[..., D] and [D', D], or [D', D, 1, 1] → [..., D']

    TRAP(jittor): long-sums. On a CPU all D products are one float32 sum, 1.4 times as far from the truth as PyTorch's.
    """
    weight = weight.reshape(weight.shape[:2])
    parts = (nn.matmul_transpose(x[..., p], weight[:, p]) for p in in_parts(x.shape[-1], 64))
    return finish(reduce(operator.add, parts) + bias, None, relu)


def projections(query, key, value, weight, bias):
    """Three linear layers whose weights lie in one: [..., D] each, [3D, D] and [3D] → [..., D] each"""
    parts = zip((query, key, value), weight.chunk(3, dim=0), bias.chunk(3, dim=0))
    return [linear(x, w, b) for x, w, b in parts]


def layer_norm(x, weight, bias):
    """[..., D] → [..., D]

    TRAP(jittor): layer-norm. nn.LayerNorm computes E[x²] − E[x]², which loses all digits when the mean is large.
    """
    centred = x - x.mean(-1, keepdims=True)
    centred = centred - centred.mean(-1, keepdims=True)  # what the mean's own rounding has left
    return centred / jt.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight + bias


def keep_mask(key: int, p: float, shape):
    """`seeding.keep_mask`: [*shape] bool, true where an element is kept"""
    def word(value):  # a Python number would become int32, and larger ones 0
        return jt.array(np.array([value], np.uint32))

    x = jt.index((int(np.prod(shape)),), dim=0).cast("uint32") * word(0x9E3779B9) ^ word(key)
    x = (x ^ (x >> word(16))) * word(0x85EBCA6B)
    x = (x ^ (x >> word(13))) * word(0xC2B2AE35)
    x = x ^ (x >> word(16))
    return (x >= word(int(p * 4294967296.0))).reshape(shape)


def dropout(x, p: float, key: int):
    """Zero the elements that `keep_mask` drops and scale the others by 1 / (1 - p)."""
    return x * keep_mask(key, p, x.shape) * (1 / (1 - p)) if p > 0 else x


def attention(q, k, v, key_padding_mask, nheads: int, p: float, key: int):
    """Scaled dot-product attention.

    Args: q [B, Lq, D], k [B, Lk, D] and v [B, Lk, E], key_padding_mask [B, Lk] bool or None, true where a key is
        ignored; p, key: dropout on the attention weights, indexed as [B, heads, Lq, Lk].

    Returns: [B, Lq, E]; zero where every key is ignored.
    """
    b, lq, d = q.shape
    # [B, heads, L, D / heads], values [B, heads, Lk, E / heads]
    q, k, v = (x.reshape(b, x.shape[1], nheads, x.shape[2] // nheads).transpose(0, 2, 1, 3) for x in (q, k, v))
    scores = jt.matmul(q * (d // nheads) ** -0.5, k.transpose(0, 1, 3, 2))  # [B, heads, Lq, Lk]
    if key_padding_mask is not None:
        ignored = key_padding_mask.reshape(b, 1, 1, -1).broadcast(scores.shape)
        scores = jt.where(ignored, jt.full_like(scores, -1e30), scores)
    weights = (scores - scores.max(-1, keepdims=True).detach()).exp()
    if key_padding_mask is not None:
        weights = weights * jt.logical_not(ignored)
    weights = weights / jt.maximum(weights.sum(-1, keepdims=True), 1e-30)
    x = jt.matmul(dropout(weights, p, key), v)  # [B, heads, Lq, E / heads]
    return x.transpose(0, 2, 1, 3).reshape(b, lq, -1)


def feed_forward(x, w1, b1, w2, b2, p: float, key: int):
    """Linear, ReLU, dropout, linear: [B, L, D] → [B, L, D]"""
    return linear(dropout(linear(x, w1, b1, relu=True), p, key), w2, b2)


def adamw_step(parameters, gradients, exp_avg, exp_avg_sq, lrs, weight_decay, step, clip_max_norm) -> float:
    """Clip all gradients by their global norm and update the parameters in place (arXiv 1711.05101).

    Args: lists of Vars, the learning rate of each; step counts from 1; clip_max_norm 0: no clipping.

    Returns: the norm before clipping. If it is not finite, nothing is updated.
    """
    # In float64: millions of squares, and Jittor adds them one by one.
    squares = jt.concat([g.float64().sqr().sum().reshape(1) for g in gradients])
    norm = float(squares.sum().sqrt().item())
    if not np.isfinite(norm):
        return norm
    clip = min(1.0, clip_max_norm / (norm + 1e-6)) if clip_max_norm else 1.0
    root = float(np.sqrt(1 - 0.999**step))
    for p, g, m, v, lr in zip(parameters, gradients, exp_avg, exp_avg_sq, lrs):
        g = (g * clip).detach()
        m.update(m + (g - m) * 0.1)
        v.update(v * 0.999 + g * g * 0.001)
        p.update(p * (1 - lr * weight_decay) - lr / (1 - 0.9**step) * m / (v.sqrt() / root + 1e-8))
    jt.sync_all()
    return norm
