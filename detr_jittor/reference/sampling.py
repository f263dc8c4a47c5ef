"""Attention to samples from a box (DE-DETR, arXiv 2203.09507, section 4.1), sample by sample.

B batch, Q queries, n heads, D width, M maps, P bins an axis, h and w height and width of a map.
"""

import math

import numpy as np

from detr_jittor.reference.losses import softmax

BINS, SAMPLES = 4, 2  # P, and what a bin is the mean of, along each axis


def places(box: np.ndarray, count: int) -> list[list[tuple[float, float]]]:
    """(y, x) of count × count places, evenly spread over a box (cx, cy, w, h)"""
    cx, cy, w, h = (float(number) for number in box)
    steps = [(i + 0.5) / count - 0.5 for i in range(count)]
    return [[(cy + h * down, cx + w * across) for across in steps] for down in steps]


def taps(y: float, x: float, h: int, w: int) -> list[tuple[int, int, float]]:
    """(row, column, weight) of the pixels around a place in pixels; beyond the map there are none."""
    top, left = math.floor(y - 0.5), math.floor(x - 0.5)
    around = [(row, column, (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column)))
              for row in (top, top + 1) for column in (left, left + 1)]
    return [(row, column, weight) for row, column, weight in around if 0 <= row < h and 0 <= column < w]


def bin_taps(box: np.ndarray, extent: np.ndarray, h: int, w: int) -> list[list[tuple[int, int, float]]]:
    """The taps of each of the P·P bins, the mean of its samples; extent: the share of the map that a picture covers."""
    grid = places(box, BINS * SAMPLES)
    return [[(row, column, weight / SAMPLES**2)
             for i in range(SAMPLES) for j in range(SAMPLES)
             for y, x in [grid[down * SAMPLES + i][across * SAMPLES + j]]
             for row, column, weight in taps(y * extent[0] * h, x * extent[1] * w, h, w)]
            for down in range(BINS) for across in range(BINS)]


def sine(position: float, features: int, temperature: float = 10000.0) -> np.ndarray:
    """[features] of a number in 0 … 1, as `layers.sine_position` has them"""
    angles = [2 * math.pi * position / temperature ** (2 * (i // 2) / features) for i in range(features)]
    return np.array([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)])


def sampled_attention(content: np.ndarray, place: np.ndarray, maps: list[np.ndarray], boxes: np.ndarray,
                      extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """softmax(content · t + place · s) over the bins of all maps, t what was sampled, s the sine of the bin's centre.

    Args:
        content, place: [B, Q, n, D]. maps: [B, h, w, D] each. boxes: [B, Q, 4] centre boxes. extent: [B, 2].

    Returns: the mean of the samples by these weights [B, Q, n, D], and the weights [B, Q, n, M, P·P], float64.
    """
    b, q, n, d = content.shape
    seen, weights = np.zeros((b, q, n, d)), np.zeros((b, q, n, len(maps), BINS**2))
    for i, j in np.ndindex(b, q):
        tokens = np.zeros((len(maps), BINS**2, d))
        for m, features in enumerate(maps):
            for number, bin_ in enumerate(bin_taps(boxes[i, j], extent[i], *features.shape[1:3])):
                for row, column, weight in bin_:
                    tokens[m, number] += weight * features[i, row, column]
        waves = np.array([np.concatenate([sine(y, d // 2), sine(x, d // 2)])
                          for line in places(boxes[i, j], BINS) for y, x in line])  # [P·P, D]
        scores = np.einsum("nd,mtd->nmt", content[i, j], tokens) + (place[i, j] @ waves.T)[:, None]
        weights[i, j] = softmax(scores.reshape(n, -1)).reshape(scores.shape)
        seen[i, j] = np.einsum("nmt,mtd->nd", weights[i, j], tokens)
    return seen, weights
