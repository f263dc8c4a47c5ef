"""Attention of each query to samples from its own box (DE-DETR, arXiv 2203.09507, section 4.1; the bins are those of
RoIAlign, arXiv 1703.06870).

Bilinear weights are separable, and boxes that carry no gradient make them constants: so the samples of a map F are
W_y · F · W_xᵀ, with a row of W for each bin of an axis.

B batch, Q queries, D width, n heads, P bins an axis, M maps, h and w height and width of a map.
"""

import math

import torch

from detr_jittor.pt.dropout import Dropout

BINS = 4  # P, of a box along each axis
SAMPLES = 2  # of a bin along each axis, whose mean it is


def sine(positions, features: int):
    """Sines and cosines of numbers in 0 … 1, as the picture's own position has them: [...] → [..., features]"""
    exponent = torch.arange(features, device=positions.device) // 2 * (2.0 / features)
    frequency = 10000.0 ** exponent.to(positions.dtype)  # [features]
    angle = positions[..., None] * (2 * math.pi) / frequency
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2)


def places(centre, side, count: int):
    """So many places, evenly spread over a box along one axis: [B, Q] and [B, Q] → [B, Q, count]"""
    steps = (torch.arange(count, device=centre.device, dtype=centre.dtype) + 0.5) / count - 0.5
    return centre[..., None] + side[..., None] * steps


def bilinear(centre, side, extent, length: int):
    """What each pixel of a map contributes to each bin, along one axis; pixels beyond the map count as zero.

    Args: centre and side [B, Q] of the boxes, extent [B]: the share of the map that the picture covers, length: of
        the map. Returns: [B, Q, P, length]
    """
    at = places(centre, side, BINS * SAMPLES) * extent[:, None, None] * length - 0.5  # [B, Q, P·2] in pixels
    pixels = torch.arange(length, device=at.device, dtype=at.dtype)
    weights = (1 - (at[..., None] - pixels).abs()).clamp(min=0)  # [B, Q, P·2, length]
    return weights.unflatten(2, (BINS, SAMPLES)).mean(3)


def samples(features, boxes, extent):
    """The bins of each query's box.

    Args: features [B, h, w, D], boxes [B, Q, 4] (cx, cy, w, h) of the picture's own size, extent [B, 2]: the share of
        the map's height and width that the picture covers. Returns: [B, Q, P·P, D]
    """
    h, w = features.shape[1:3]
    rows = bilinear(boxes[..., 1], boxes[..., 3], extent[:, 0], h)  # [B, Q, P, h]
    columns = bilinear(boxes[..., 0], boxes[..., 2], extent[:, 1], w)  # [B, Q, P, w]
    x = rows.flatten(1, 2) @ features.flatten(2)  # [B, Q·P, w·D]
    x = x.unflatten(1, (-1, BINS)).unflatten(3, (w, -1))  # [B, Q, P, w, D]
    return (columns[:, :, None] @ x).flatten(2, 3)  # [B, Q, P·P, D]


def sampled_attention(content, place, maps, boxes, extent, dropout: Dropout):
    """Attention of each query to the bins of its own box, on all maps together.

    A key is W_k t + W_r s, t what was sampled and s the sine of the bin's centre. Its product with a query is that of
    W_kᵀ q with t and of W_rᵀ q with s, so the queries are brought to the samples, which are many; and s is the sine of
    a row beside that of a column, so that their products are summed, not their vectors joined.

    Args: content and place [B, Q, n, D]: W_kᵀ q and W_rᵀ q of each head, scaled; maps [B, h, w, D] each.

    Returns: [B, Q, n, D] the mean of the samples t by the weights of each head.
    """
    half, boxes = place.shape[3] // 2, boxes.detach()
    tokens = torch.cat([samples(features, boxes, extent) for features in maps], 2)  # [B, Q, M·P·P, D]
    of_rows, of_columns = (sine(places(boxes[..., i], boxes[..., i + 2], BINS), half) for i in (1, 0))  # [B, Q, P, D/2]
    of_rows = place[..., :half] @ of_rows.transpose(2, 3)  # [B, Q, n, P]
    of_columns = place[..., half:] @ of_columns.transpose(2, 3)  # [B, Q, n, P]
    where = (of_rows[..., None] + of_columns[..., None, :]).flatten(3)  # [B, Q, n, P·P]
    scores = content @ tokens.transpose(2, 3) + where.repeat(1, 1, 1, len(maps))  # [B, Q, n, M·P·P]
    return dropout(scores.softmax(-1)) @ tokens


def to_heads(x, weight, nheads: int):
    """Wᵀ x by head: [B, Q, D] and [D, D] → [B, Q, n, D]"""
    b, q, d = x.shape
    rows = x.reshape(b * q, nheads, -1).transpose(0, 1)  # [n, B·Q, D / n]
    return (rows @ weight.view(nheads, -1, d)).transpose(0, 1).reshape(b, q, nheads, d)


def from_heads(x, weight, nheads: int):
    """W x by head: [B, Q, n, D] and [D, D] → [B, Q, D]"""
    b, q, _, d = x.shape
    rows = x.reshape(b * q, nheads, d).transpose(0, 1)  # [n, B·Q, D]
    return (rows @ weight.view(nheads, -1, d).transpose(1, 2)).transpose(0, 1).reshape(b, q, d)
