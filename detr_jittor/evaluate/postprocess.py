"""From the model's outputs to detections in a picture's own pixels. B batch, Q queries, C classes, N detections."""

import numpy as np
from scipy.special import expit

from detr_jittor.errors import DetrError
from detr_jittor.evaluate.segmentation import instance_masks, padded_size
from detr_jittor.twin import boxes
from detr_jittor.types import Detections, Outputs, Target

SAME = 0.7  # intersection over union of two boxes that are taken for one, where a query can have several
MOST = 100  # detections of a picture where a query can have several


def detections(outputs: Outputs, targets: list[Target], smallest_score: float = 0.0) -> list[Detections]:
    """The detections of each picture, the best first.

    One a query, as the reference code's PostProcess has it: its score is the query's largest probability among the
    classes without "no object". Where each class has a probability of its own, the best `MOST` of queries × classes
    (Deformable DETR, arXiv 2010.04159), and of boxes of one class that are nearly the same only the best (non-maximum
    suppression, as DE-DETR has it, arXiv 2203.09507).

    Args:
        outputs: the last decoder layer's, B pictures.
        targets: for `image_id`, `size` and `orig_size` of each picture; annotations are not looked at.
        smallest_score: detections with less are left out.

    Errors: DetrError if an output is not finite.
    """
    if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.boxes).all()):
        raise DetrError("the model's outputs are not finite.", "Its weights have diverged; take an earlier checkpoint.")
    corners = boxes.cxcywh_to_xyxy(outputs.boxes)  # [B, Q, 4]
    choose = best_of_all if outputs.each else best_of_each
    found = []
    for b, target in enumerate(targets):
        queries, labels, scores = choose(outputs.logits[b])
        wanted = scores >= smallest_score
        if outputs.each:
            wanted &= distinct(corners[b][queries], labels)
        queries, labels, scores = queries[wanted], labels[wanted], scores[wanted]  # [N]
        height, width = target.orig_size
        pixels = corners[b][queries] * np.array([width, height, width, height], np.float32)  # [N, 4]
        masks = None
        if outputs.masks is not None:
            masks = instance_masks(outputs.masks[b][queries], padded_size(targets), target)
        found.append(Detections(target.image_id, scores, labels.astype(np.int64), pixels, masks, queries))
    return found


def best_of_each(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[Q, C + 1] → query, label and score [Q] of each query's best class, the best first"""
    probability = softmax(logits)[..., :-1]  # [Q, C]
    labels, scores = probability.argmax(axis=-1), probability.max(axis=-1)  # [Q]
    order = np.argsort(-scores, kind="stable")
    return order, labels[order], scores[order]


def best_of_all(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[Q, C] → query, label and score [N] of the best queries × classes, the best first"""
    order = np.argsort(-logits.ravel(), kind="stable")[:MOST]
    queries, labels = np.divmod(order, logits.shape[1])
    return queries, labels, expit(logits.ravel()[order])


def distinct(corners: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[N, 4] (x1, y1, x2, y2) and [N], the best first → [N] bool: which are left when each takes those after it that
    are of its class and overlap it by more than `SAME`."""
    sides = corners[:, 2:] - corners[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    shared = boxes.intersections(corners, corners)  # [N, N]
    same = (shared > SAME * (areas[:, None] + areas[None] - shared)) & (labels[:, None] == labels[None])
    left = np.ones(len(labels), bool)
    for i in range(len(labels)):
        if left[i]:
            left[i + 1:] &= ~same[i, i + 1:]
    return left


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., C + 1] → probabilities over the last axis, in the logits' own type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
