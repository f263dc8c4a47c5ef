"""Boxes as NumPy arrays, for all code outside the frameworks. N and M count boxes, the last axis is 4."""

import numpy as np


def cxcywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] (centre x, centre y, width, height) → (x1, y1, x2, y2), same unit."""
    cx, cy, w, h = np.moveaxis(boxes, -1, 0)
    return np.stack([cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h], axis=-1)


def xyxy_to_cxcywh(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] (x1, y1, x2, y2) → (centre x, centre y, width, height), same unit."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    return np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=-1)


def area(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] (x1, y1, x2, y2) → [...] area in the boxes' unit squared."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N, 4] and [M, 4] (x1, y1, x2, y2) → [N, M] the area that each two share"""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])  # [N, M, 2]
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=-1)
