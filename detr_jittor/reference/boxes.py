"""Boxes, one pair at a time. N and M count boxes; a corner box is (x1, y1, x2, y2), a centre box (cx, cy, w, h)."""

import numpy as np


def corners(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] centre boxes → [N, 4] corner boxes, same unit."""
    return np.array([[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                     for cx, cy, w, h in float64(boxes)]).reshape(-1, 4)


def centres(boxes: np.ndarray) -> np.ndarray:
    """[N, 4] corner boxes → [N, 4] centre boxes, same unit."""
    return np.array([[x1 + (x2 - x1) / 2, y1 + (y2 - y1) / 2, x2 - x1, y2 - y1]
                     for x1, y1, x2, y2 in float64(boxes)]).reshape(-1, 4)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, 4] and [M, 4] corner boxes → [N, M] intersection over union; 0 where both boxes have no area."""
    return pairwise(pair_iou, a, b)


def generalized_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, 4] and [M, 4] corner boxes → [N, M] generalised IoU (arXiv 1902.09630, algorithm 1)."""
    return pairwise(pair_giou, a, b)


def pair_iou(a, b) -> float:
    union = pair_union(a, b)
    return pair_intersection(a, b) / union if union > 0 else 0.0


def pair_giou(a, b) -> float:
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return pair_iou(a, b) - ((hull - pair_union(a, b)) / hull if hull > 0 else 0.0)


def pair_intersection(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def pair_union(a, b) -> float:
    return (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - pair_intersection(a, b)


def pairwise(measure, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = float64(a), float64(b)
    return np.array([[measure(p, q) for q in b] for p in a], np.float64).reshape(len(a), len(b))


def float64(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(boxes, np.float64).reshape(-1, 4)
