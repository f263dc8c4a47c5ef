"""Attention of each query to samples from its own box (DE-DETR, arXiv 2203.09507, section 4.1; the bins are those of
RoIAlign, arXiv 1703.06870).

Bilinear weights are separable, and boxes that carry no gradient make them constants: so the samples of a map F are
W_y · F · W_xᵀ, with a row of W for each bin of an axis.

B batch, Q queries, D width, n heads, P bins an axis, M maps, h and w height and width of a map.
"""

import math

import numpy as np

from detr_jittor.jt.dropout import Dropout
from detr_jittor.jt.setup.runtime import jt

nn = jt.nn

BINS = 4  # P, of a box along each axis
SAMPLES = 2  # of a bin along each axis, whose mean it is


def sine(positions, features: int, temperature: float = 10000.0):
    """Sines and cosines of numbers in 0 … 1, as the picture's own position has them: [...] → [..., features]"""
    exponent = np.arange(features) // 2 * (2.0 / features)
    frequency = jt.array((temperature**exponent).astype(np.float32))  # [features]
    angle = positions.unsqueeze(-1) * (2 * math.pi) / frequency
    waves = jt.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1)  # [..., features / 2, 2]
    return waves.reshape(*positions.shape, features)


def places(centre, side, count: int):
    """So many places, evenly spread over a box along one axis: [B, Q] and [B, Q] → [B, Q, count]"""
    steps = jt.array(((np.arange(count) + 0.5) / count - 0.5).astype(np.float32))
    return centre.unsqueeze(2) + side.unsqueeze(2) * steps


def bilinear(centre, side, extent, length: int):
    """What each pixel of a map contributes to each bin, along one axis; pixels beyond the map count as zero.

    Args: centre and side [B, Q] of the boxes, extent [B]: the share of the map that the picture covers, length: of
        the map. Returns: [B, Q, P, length]
    """
    at = places(centre, side, BINS * SAMPLES) * extent.reshape(-1, 1, 1) * length - 0.5  # [B, Q, P·2] in pixels
    pixels = jt.array(np.arange(length, dtype=np.float32))
    weights = jt.maximum(1 - (at.unsqueeze(3) - pixels).abs(), 0)  # [B, Q, P·2, length]
    return weights.reshape(*at.shape[:2], BINS, SAMPLES, length).mean(3)


def samples(features, boxes, extent):
    """The bins of each query's box.

    Args: features [B, h, w, D], boxes [B, Q, 4] (cx, cy, w, h) of the picture's own size, extent [B, 2]: the share of
        the map's height and width that the picture covers. Returns: [B, Q, P·P, D]
    """
    b, h, w, d = features.shape
    rows = bilinear(boxes[..., 1], boxes[..., 3], extent[:, 0], h)  # [B, Q, P, h]
    columns = bilinear(boxes[..., 0], boxes[..., 2], extent[:, 1], w)  # [B, Q, P, w]
    x = jt.matmul(rows.flatten(1, 2), features.flatten(2))  # [B, Q·P, w·D]
    columns = columns.unsqueeze(2).broadcast((b, columns.shape[1], BINS, BINS, w))  # [B, Q, P, P, w]
    x = jt.matmul(columns.reshape(-1, BINS, w), x.reshape(-1, w, d))  # [B·Q·P, P, D]
    return x.reshape(b, -1, BINS * BINS, d)


def sampled_attention(content, place, maps, boxes, extent, dropout: Dropout):
    """Attention of each query to the bins of its own box, on all maps together.

    A key is W_k t + W_r s, t what was sampled and s the sine of the bin's centre. Its product with a query is that of
    W_kᵀ q with t and of W_rᵀ q with s, so the queries are brought to the samples, which are many; and s is the sine of
    a row beside that of a column, so that their products are summed, not their vectors joined.

    Args: content and place [B, Q, n, D]: W_kᵀ q and W_rᵀ q of each head, scaled; maps [B, h, w, D] each.

    Returns: [B, Q, n, D] the mean of the samples t by the weights of each head.
    """
    half = place.shape[3] // 2
    tokens = jt.concat([samples(features, boxes, extent) for features in maps], dim=2)  # [B, Q, M·P·P, D]
    of_rows, of_columns = (sine(places(boxes[..., i], boxes[..., i + 2], BINS), half) for i in (1, 0))  # [B, Q, P, D/2]
    of_rows = jt.matmul(place[..., :half], of_rows.transpose(0, 1, 3, 2))  # [B, Q, n, P]
    of_columns = jt.matmul(place[..., half:], of_columns.transpose(0, 1, 3, 2))  # [B, Q, n, P]
    where = (of_rows.unsqueeze(4) + of_columns.unsqueeze(3)).flatten(3)  # [B, Q, n, P·P]
    scores = jt.matmul(content, tokens.transpose(0, 1, 3, 2))  # [B, Q, n, M·P·P]
    scores = scores + jt.concat([where] * len(maps), dim=3)
    return jt.matmul(dropout(nn.softmax(scores, -1)), tokens)
