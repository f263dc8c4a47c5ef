"""The layers of the transformer whose maths is short: position embedding, attention, layer norm.

B batch, S length of a sequence, D width, F features an axis.
"""

import math

import numpy as np

from detr_jittor.reference.losses import softmax


def sine_position(mask: np.ndarray, features: int = 128, temperature: float = 10000.0) -> np.ndarray:
    """The two-dimensional sine position embedding, over the unpadded part of each picture scaled to (0, 2π].

    Feature i of an axis is sin (i even) or cos (i odd) of place / temperature^(2·⌊i/2⌋/F); y's features come first.

    Args:
        mask: [B, H, W] bool, true in the padding.

    Returns: [B, 2F, H, W] float64.
    """
    batch, height, width = mask.shape
    embedding = np.zeros((batch, 2 * features, height, width))
    for b, y, x in np.ndindex(mask.shape):
        inside = ~mask[b]
        below, across = inside[:y + 1, x].sum(), inside[y, :x + 1].sum()
        places = (below / (inside[:, x].sum() + 1e-6) * 2 * math.pi, across / (inside[y].sum() + 1e-6) * 2 * math.pi)
        for axis, place in enumerate(places):
            for i in range(features):
                angle = place / temperature ** (2 * (i // 2) / features)
                embedding[b, axis * features + i, y, x] = math.cos(angle) if i % 2 else math.sin(angle)
    return embedding


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """softmax(q·kᵀ / √d)·v (arXiv 1706.03762, eq. 1).

    Args:
        query: [..., Sq, d]. key: [..., Sk, d]. value: [..., Sk, dv]. mask: [..., Sk] bool, true where not to look.

    Returns: [..., Sq, dv] float64.
    """
    query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])  # [..., Sq, Sk]
    if mask is not None:
        scores = np.where(mask[..., None, :], -np.inf, scores)
    return softmax(scores) @ value


def multi_head_attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int,
                         in_proj_weight: np.ndarray, in_proj_bias: np.ndarray,
                         out_proj_weight: np.ndarray, out_proj_bias: np.ndarray,
                         mask: np.ndarray | None = None) -> np.ndarray:
    """Attention by heads, with the weights under the reference code's names.

    Args:
        query: [B, Sq, D]. key, value: [B, Sk, D]. mask: [B, Sk] bool, true in the padding.
        in_proj_weight: [3D, D], the rows of q, k, v in this order. in_proj_bias: [3D]. out_proj_weight: [D, D].

    Returns: [B, Sq, D] float64.
    """
    width = query.shape[-1]
    size = width // heads
    projected = [np.asarray(sequence, np.float64) @ in_proj_weight[i * width:(i + 1) * width].T
                 + in_proj_bias[i * width:(i + 1) * width] for i, sequence in enumerate((query, key, value))]
    of_heads = [attention(*(p[..., h * size:(h + 1) * size] for p in projected), mask) for h in range(heads)]
    return np.concatenate(of_heads, axis=-1) @ np.asarray(out_proj_weight, np.float64).T + out_proj_bias


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """[..., D] → (x − mean) / √(variance + eps) · weight + bias over the last axis (arXiv 1607.06450)."""
    x = np.asarray(x, np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred ** 2).mean(axis=-1, keepdims=True) + eps) * weight + bias
