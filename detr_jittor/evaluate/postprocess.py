"""From the model's outputs to detections in a picture's own pixels. B batch, Q queries, C classes, N detections."""

import numpy as np

from detr_jittor import boxes
from detr_jittor.errors import DetrError
from detr_jittor.types import Detections, Outputs, Target


def detections(outputs: Outputs, targets: list[Target]) -> list[Detections]:
    """One detection a query, the best first, as the reference code's PostProcess has it.

    A query's score is its largest probability among the classes without "no object" (not the best of all
    queries × classes: one query gives one detection).

    Args:
        outputs: the last decoder layer's, B pictures.
        targets: for `image_id` and `orig_size` of each picture; annotations are not looked at.

    Errors: DetrError if an output is not finite.
    """
    if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.boxes).all()):
        raise DetrError("the model's outputs are not finite.", "Its weights have diverged; take an earlier checkpoint.")
    probability = softmax(outputs.logits)[..., :-1]  # [B, Q, C]
    labels, scores = probability.argmax(axis=-1), probability.max(axis=-1)  # [B, Q]
    corners = boxes.cxcywh_to_xyxy(outputs.boxes)  # [B, Q, 4]
    return [of_picture(target, *arrays) for target, *arrays in zip(targets, scores, labels, corners)]


def of_picture(target: Target, scores: np.ndarray, labels: np.ndarray, corners: np.ndarray) -> Detections:
    height, width = target.orig_size
    order = np.argsort(-scores, kind="stable")  # [Q]
    pixels = corners * np.array([width, height, width, height], np.float32)  # [Q, 4]
    return Detections(target.image_id, scores[order], labels[order].astype(np.int64), pixels[order])


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., C + 1] → probabilities over the last axis, in the logits' own type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
