"""Noisy copies of the objects, which training shows beside the queries (DN-DETR, arXiv 2203.01305, section 4.3).

A copy's noise is a function of (seed, step, picture), so that neither the framework nor the batch or the process that a
picture is in changes it. B pictures, G groups, T the most objects of a picture.
"""

from dataclasses import dataclass

import numpy as np

from detr_jittor.twin import seeding
from detr_jittor.types import Target

SHIFT = 0.4  # of half a side: how far a centre moves at most
STRETCH = 0.4  # how much longer or shorter a side becomes at most
FLIPPED = 0.25  # the share of labels that are replaced by a random one
EDGE = 1e-3  # the boxes' numbers stay so far from 0 and 1, where their logits would not be finite


@dataclass
class Noisy:
    """The copies of a batch's objects, group by group. A picture with fewer objects than T has empty places."""

    labels: np.ndarray  # [B, G·T] int64: the label that a copy shows
    logits: np.ndarray  # [B, G·T, 4] float32: its box, as logits of (cx, cy, w, h)
    empty: np.ndarray  # [B, T] bool, in every group the same
    groups: int

    def hidden(self, queries: int) -> np.ndarray:
        """Whom the copies of a group do not see, of so many queries and its own places: [B·G, Q + T] bool"""
        seen = np.zeros((len(self.empty), queries), bool)
        return np.repeat(np.concatenate([seen, self.empty], axis=1), self.groups, axis=0)

    def pairs(self, layers: int) -> tuple[np.ndarray, np.ndarray]:
        """Of all layers: the place of each copy in the flattened [L, B, G·T], and its object of the batch → [L·N]"""
        b, t = self.empty.shape
        numbers = np.cumsum(~self.empty).reshape(b, 1, t) - 1  # [B, 1, T]
        places = np.flatnonzero(np.broadcast_to(~self.empty[:, None], (b, self.groups, t)))
        objects = np.broadcast_to(numbers, (b, self.groups, t)).ravel()[places]
        starts = np.arange(layers) * b * self.groups * t
        return (starts[:, None] + places).ravel(), np.tile(objects, layers)


def noisy_copies(targets: list[Target], groups: int, num_classes: int, seed: int) -> Noisy:
    """
    Args:
        groups: copies of every object.
        seed: of the step, the same in all processes.
    """
    most = max([1, *(len(target.labels) for target in targets)])  # one place at least: an embedding is always used
    labels = np.zeros((len(targets), groups, most), np.int64)
    logits = np.zeros((len(targets), groups, most, 4), np.float32)
    empty = np.ones((len(targets), most), bool)
    for i, target in enumerate(targets):
        count = len(target.labels)
        rng = seeding.generator(seed, seeding.place_id("denoising"), target.image_id)
        labels[i, :, :count] = noisy_labels(rng, target.labels, groups, num_classes)
        boxes = np.clip(noisy_boxes(rng, target.boxes, groups), EDGE, 1 - EDGE)
        logits[i, :, :count] = np.log(boxes / (1 - boxes))
        empty[i, :count] = False
    return Noisy(labels.reshape(len(targets), -1), logits.reshape(len(targets), -1, 4), empty, groups)


def noisy_labels(rng: np.random.Generator, labels: np.ndarray, groups: int, num_classes: int) -> np.ndarray:
    """[T] → [G, T], some replaced by any of the classes"""
    shape = groups, len(labels)
    return np.where(rng.random(shape) < FLIPPED, rng.integers(0, num_classes, shape), labels)


def noisy_boxes(rng: np.random.Generator, boxes: np.ndarray, groups: int) -> np.ndarray:
    """[T, 4] → [G, T, 4] float64 (cx, cy, w, h)"""
    shift, stretch = rng.uniform(-1, 1, (2, groups, len(boxes), 2))
    centres, sides = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    return np.concatenate([centres + SHIFT * shift * sides / 2, sides * (1 + STRETCH * stretch)], axis=2)
