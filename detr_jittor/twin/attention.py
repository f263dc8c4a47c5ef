"""Where a model looks, from the projected queries and keys of its attention layers. Knows no framework.

B batch, Q object queries, S = h·w places of the feature map, D width, n attention heads.
"""

import numpy as np

from detr_jittor.config.options import ModelConfig
from detr_jittor.reference import sampling
from detr_jittor.types import Attention


def attention_of(calls: list[tuple[np.ndarray, np.ndarray]], padding: np.ndarray, config: ModelConfig,
                 samples: list[np.ndarray] = ()) -> Attention:
    """The attention of the last encoder and the last decoder layer.

    Args:
        calls: queries and keys of every attention layer in the order in which they run: those of the encoder, then of
            each decoder layer that among the queries and, where it looks at the whole picture, that on the picture.
        padding: [B, h, w] bool, true in the padding.
        samples: where the last decoder layer looks at samples: content, place, boxes, extent and maps, as
            `sampled_attention` was called with them.
    """
    b, h, w = padding.shape
    hidden, encoder = padding.reshape(b, h * w), None
    if config.enc_layers:
        encoder = weights(*calls[config.enc_layers - 1], hidden, config.nheads).reshape(b, h, w, h, w)
    decoder = of_samples(*samples[:4], samples[4:], h, w) if samples else \
        weights(*calls[-1], hidden, config.nheads).reshape(b, -1, h, w)
    return Attention(decoder, encoder, stride=config.stride)


def of_samples(content, place, boxes, extent, maps: list[np.ndarray], h: int, w: int) -> np.ndarray:
    """[B, Q, h, w] the weights of each query's samples, spread over the pixels of a map that they lie between"""
    _, found = sampling.sampled_attention(content, place, maps, boxes, extent)
    found = found.mean(2).sum(2)  # [B, Q, P·P]
    spread = np.zeros((*found.shape[:2], h, w), np.float32)
    for i, j in np.ndindex(found.shape[:2]):
        for weight, taps in zip(found[i, j], sampling.bin_taps(boxes[i, j], extent[i], h, w)):
            for row, column, share in taps:
                spread[i, j, row, column] += weight * share
    return spread


def weights(q: np.ndarray, k: np.ndarray, hidden: np.ndarray, nheads: int) -> np.ndarray:
    """[B, Lq, D], [B, Lk, D] and [B, Lk] bool, true where a key is ignored → [B, Lq, Lk], mean of the heads"""
    total = np.zeros((len(q), q.shape[1], k.shape[1]), np.float32)
    for of_q, of_k in zip(np.split(q, nheads, axis=2), np.split(k, nheads, axis=2)):  # a head at a time: memory
        scores = of_q * of_q.shape[2] ** -0.5 @ of_k.swapaxes(1, 2)  # [B, Lq, Lk]
        scores[np.broadcast_to(hidden[:, None], scores.shape)] = -np.inf
        powers = np.exp(scores - scores.max(axis=2, keepdims=True))
        total += powers / powers.sum(axis=2, keepdims=True)
    return total / nheads
