"""The kernels in plain Jittor operators: the reference of the fast ones, and what serves where those cannot.

B batch, L length, D width.
"""

import math
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


def group_norm(x, weight, bias, groups: int):
    """[N, C, H, W] → [N, C, H, W]

    TRAP(jittor): group-norm. nn.GroupNorm computes E[x²] − E[x]², which loses all digits when the mean is large.
    """
    n, c, h, w = x.shape
    y = x.reshape(n * groups, c // groups, h, w)
    centred = y - over(mean(y), y.shape)
    y = centred * over(1 / jt.sqrt(mean(centred * centred) + 1e-5), y.shape)
    return y.reshape(n, c, h, w) * spread(weight, x.shape) + spread(bias, x.shape)


def spread(x, shape):
    """[C] → [N, C, H, W]"""
    return over(x.reshape(1, -1, 1, 1), shape)


def over(x, shape):
    """[N or 1, C or 1, 1, 1] → [N, C, H, W]

    TRAP(jittor): long-sums. The gradient of one broadcast is one float32 sum over all that it fills: so axis by axis.
    """
    n, c, h, w = shape
    return x.broadcast((n, c, 1, 1)).broadcast((n, c, h, 1)).broadcast((n, c, h, w))


def mean(x):
    """[N, C, H, W] → [N, 1, 1, 1]

    TRAP(jittor): long-sums. One float32 sum over a million numbers loses three digits: so row by row.
    """
    return x.mean(3, keepdims=True).mean(2, keepdims=True).mean(1, keepdims=True)


class Split(jt.Function):
    def execute(self, x, axis, first):
        before = (slice(None),) * axis
        self.axis, parts = axis, (x[(*before, slice(first))], x[(*before, slice(first, None))])
        self.shapes = [part.shape for part in parts]
        return parts

    def grad(self, *gradients):
        parts = [jt.zeros(shape) if g is None else g for g, shape in zip(gradients, self.shapes)]
        return jt.concat(parts, dim=self.axis), None, None


def split(x, axis: int, first: int):
    """The first entries of an axis, and the rest. The gradient is that of both at once; Jittor's own of a slice writes
    zeros as large as x, a part of x into them, and adds that up for each slice."""
    return Split.apply(x, axis % x.ndim, first)


def concat(parts, axis: int):
    """The reverse of `split`, of any number of parts."""
    return jt.concat(parts, dim=axis)


class Entries(jt.Function):
    def execute(self, x):
        parts = [x[..., i] for i in range(x.shape[-1])]
        self.shape = parts[0].shape
        return parts

    def grad(self, *gradients):
        return jt.stack([jt.zeros(self.shape) if g is None else g for g in gradients], dim=-1)


def entries(x):
    """The entries of the last axis: [..., n] → n of [...]. Their gradient is made at once, as that of `split`."""
    return Entries.apply(x)


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


def by_head(x, nheads: int):
    """[B, L, D] → [B, heads, L, D / heads]"""
    b, length, d = x.shape
    return x.reshape(b, length, nheads, d // nheads).transpose(0, 2, 1, 3)


def attention(q, k, v, key_padding_mask, nheads: int, p: float, key: int):
    """Scaled dot-product attention.

    Args: q [B, Lq, D], k [B, Lk, D] and v [B, Lk, E], key_padding_mask [B, Lk] bool or None, true where a key is
        ignored; p, key: dropout on the attention weights, indexed as [B, heads, Lq, Lk].

    Returns: [B, Lq, E]; zero where every key is ignored.
    """
    b, lq, d = q.shape
    q, k, v = (by_head(x, nheads) for x in (q, k, v))
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


def sine(positions, features: int):
    """Sines and cosines of numbers in 0 … 1, as the picture's own position has them: [...] → [..., features]"""
    exponent = np.arange(features) // 2 * (2.0 / features)
    frequency = jt.array((10000.0**exponent).astype(np.float32))  # [features]
    angle = positions.unsqueeze(-1) * (2 * math.pi) / frequency
    waves = jt.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1)  # [..., features / 2, 2]
    return waves.reshape(*positions.shape, features)


def bilinear(centre, side, extent, length: int, bins: int, of_bin: int):
    """What each pixel of a map contributes to each bin, along one axis: [B, K] and [B] → [B, K, P, length]"""
    count = bins * of_bin
    steps = jt.array(((np.arange(count) + 0.5) / count - 0.5).astype(np.float32))
    at = centre.unsqueeze(2) + side.unsqueeze(2) * steps
    at = at * extent.reshape(-1, 1, 1) * length - 0.5  # [B, K, P·2] in pixels
    pixels = jt.array(np.arange(length, dtype=np.float32))
    weights = jt.maximum(1 - (at.unsqueeze(3) - pixels).abs(), 0)  # [B, K, P·2, length]
    return weights.reshape(*at.shape[:2], bins, of_bin, length).mean(3)


def samples(features, boxes, extent, bins: int, of_bin: int):
    """[B, h, w, D], boxes [B, K, 4] → [B, K, P·P, D], W_y · F · W_xᵀ"""
    b, h, w, d = features.shape
    rows = bilinear(boxes[..., 1], boxes[..., 3], extent[:, 0], h, bins, of_bin)  # [B, K, P, h]
    columns = bilinear(boxes[..., 0], boxes[..., 2], extent[:, 1], w, bins, of_bin)  # [B, K, P, w]
    x = jt.matmul(rows.flatten(1, 2), features.flatten(2))  # [B, K·P, w·D]
    columns = columns.unsqueeze(2).broadcast((b, columns.shape[1], bins, bins, w))  # [B, K, P, P, w]
    x = jt.matmul(columns.reshape(-1, bins, w), x.reshape(-1, w, d))  # [B·K·P, P, D]
    return x.reshape(b, -1, bins * bins, d)


def sampled_attention(content, place, rows, columns, boxes, extent, maps, bins: int, of_bin: int, p: float, key: int):
    """Attention of each query to the bins of its own box, on all maps together.

    Args: content and place [B, K, n, D] queries of each head, scaled; rows and columns [B, K, P, D / 2] the sines of
        the bins' centres; boxes [B, K, 4]; extent [B, 2]; maps [B, h, w, D] each; bins: P; of_bin: samples of a bin
        along each axis; p, key: dropout on the attention weights, indexed as [B, K, n, M·P·P].

    Returns: [B, K, n, D] the mean of what was sampled by the weights of each head.
    """
    tokens = jt.concat([samples(features, boxes, extent, bins, of_bin) for features in maps], dim=2)
    scores = sampled_scores(content, place, rows, columns, tokens)
    return jt.matmul(dropout(nn.softmax(scores, -1), p, key), tokens)


def sampled_scores(content, place, rows, columns, tokens):
    """The scores of the tokens [B, K, M·P·P, D] that were sampled from each query's box → [B, K, n, M·P·P]"""
    half = place.shape[3] // 2
    of_rows = jt.matmul(place[..., :half], rows.transpose(0, 1, 3, 2))  # [B, K, n, P]
    of_columns = jt.matmul(place[..., half:], columns.transpose(0, 1, 3, 2))  # [B, K, n, P]
    where = (of_rows.unsqueeze(4) + of_columns.unsqueeze(3)).flatten(3)  # [B, K, n, P·P]
    scores = jt.matmul(content, tokens.transpose(0, 1, 3, 2))  # [B, K, n, M·P·P]
    return scores + jt.concat([where] * (tokens.shape[2] // where.shape[3]), dim=3)


def to_heads(x, weight, nheads: int):
    """Wᵀ x by head: [B, K, D] and [D, D] → [B, K, n, D]"""
    b, k, d = x.shape
    rows = x.reshape(b * k, nheads, -1).transpose(1, 0, 2)  # [n, B·K, D / n]
    return jt.matmul(rows, weight.reshape(nheads, -1, d)).transpose(1, 0, 2).reshape(b, k, nheads, d)


def from_heads(x, weight, nheads: int):
    """W x by head: [B, K, n, D] and [D, D] → [B, K, D]"""
    b, k, _, d = x.shape
    rows = x.reshape(b * k, nheads, d).transpose(1, 0, 2)  # [n, B·K, D]
    y = jt.matmul(rows, weight.reshape(nheads, -1, d).transpose(0, 2, 1))  # [n, B·K, D / n]
    return y.transpose(1, 0, 2).reshape(b, k, d)


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
