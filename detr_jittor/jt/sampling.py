"""Attention of each query to samples from its own box (DE-DETR, arXiv 2203.09507, section 4.1; the bins are those of
RoIAlign, arXiv 1703.06870).

Bilinear weights are separable, and boxes that carry no gradient make them constants: so the samples of a map F are
W_y · F · W_xᵀ, with a row of W for each bin of an axis.

B batch, Q queries, D width, n heads, P bins an axis, M maps, h and w height and width of a map.
"""

import numpy as np

from detr_jittor.jt import kernels
from detr_jittor.jt.dropout import Dropout
from detr_jittor.jt.setup.runtime import jt

BINS = 4  # P, of a box along each axis
SAMPLES = 2  # of a bin along each axis, whose mean it is


def sine(positions, features: int):
    """Sines and cosines of numbers in 0 … 1, as the picture's own position has them: [...] → [..., features]"""
    return kernels.sine(positions, features)


def places(centre, side, count: int):
    """So many places, evenly spread over a box along one axis: [B, Q] and [B, Q] → [B, Q, count]"""
    steps = jt.array(((np.arange(count) + 0.5) / count - 0.5).astype(np.float32))
    return centre.unsqueeze(2) + side.unsqueeze(2) * steps


def sampled_attention(content, place, maps, boxes, extent, dropout: Dropout):
    """Attention of each query to the bins of its own box, on all maps together.

    A key is W_k t + W_r s, t what was sampled and s the sine of the bin's centre. Its product with a query is that of
    W_kᵀ q with t and of W_rᵀ q with s, so the queries are brought to the samples, which are many; and s is the sine of
    a row beside that of a column, so that their products are summed, not their vectors joined.

    Args: content and place [B, Q, n, D]: W_kᵀ q and W_rᵀ q of each head, scaled; maps [B, h, w, D] each.

    Returns: [B, Q, n, D] the mean of the samples t by the weights of each head.
    """
    half, boxes = place.shape[3] // 2, boxes.detach()
    rows, columns = (sine(places(boxes[..., i], boxes[..., i + 2], BINS), half) for i in (1, 0))  # [B, Q, P, D / 2]
    return kernels.sampled_attention(content, place, rows, columns, boxes, extent, maps, BINS, SAMPLES,
                                     dropout.rate(), dropout.key)


def to_heads(x, weight, nheads: int):
    """Wᵀ x by head: [B, Q, D] and [D, D] → [B, Q, n, D]"""
    return kernels.to_heads(x, weight, nheads)


def from_heads(x, weight, nheads: int):
    """W x by head: [B, Q, n, D] and [D, D] → [B, Q, D]"""
    return kernels.from_heads(x, weight, nheads)
