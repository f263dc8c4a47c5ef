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


def iou(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, 4] and [M, 4] (x1, y1, x2, y2) → intersection over union [N, M] and the union [N, M].

    Two boxes of no area have the IoU 0, not 0/0.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # [N, M, 2]
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])  # [N, M, 2]
    intersection = np.prod(np.clip(high - low, 0, None), axis=-1)  # [N, M]
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0), union


def generalized_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, 4] and [M, 4] (x1, y1, x2, y2) → generalised IoU [N, M] in (-1, 1] (arXiv 1902.09630).

    GIoU = IoU − (area of the smallest enclosing box − union) / area of the smallest enclosing box.
    """
    overlap, union = iou(a, b)
    low = np.minimum(a[:, None, :2], b[None, :, :2])
    high = np.maximum(a[:, None, 2:], b[None, :, 2:])
    enclosing = np.prod(high - low, axis=-1)  # [N, M]
    empty = np.divide(enclosing - union, enclosing, out=np.zeros_like(union), where=enclosing > 0)
    return overlap - empty
