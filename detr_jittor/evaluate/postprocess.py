"""From the model's outputs to detections in a picture's own pixels. B batch, Q queries, C classes, N detections."""

import numpy as np

from detr_jittor.errors import DetrError
from detr_jittor.evaluate.segmentation import instance_masks, padded_size
from detr_jittor.twin import boxes
from detr_jittor.types import Detections, Outputs, Target


def detections(outputs: Outputs, targets: list[Target], smallest_score: float = 0.0) -> list[Detections]:
    """One detection a query, the best first, as the reference code's PostProcess has it.

    A query's score is its largest probability among the classes without "no object" (not the best of all
    queries × classes: one query gives one detection).

    Args:
        outputs: the last decoder layer's, B pictures.
        targets: for `image_id`, `size` and `orig_size` of each picture; annotations are not looked at.
        smallest_score: detections with less are left out.

    Errors: DetrError if an output is not finite.
    """
    if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.boxes).all()):
        raise DetrError("the model's outputs are not finite.", "Its weights have diverged; take an earlier checkpoint.")
    probability = softmax(outputs.logits)[..., :-1]  # [B, Q, C]
    labels, scores = probability.argmax(axis=-1), probability.max(axis=-1)  # [B, Q]
    corners = boxes.cxcywh_to_xyxy(outputs.boxes)  # [B, Q, 4]
    found = []
    for b, target in enumerate(targets):
        order = np.argsort(-scores[b], kind="stable")  # [Q]
        order = order[scores[b][order] >= smallest_score]  # [N]
        height, width = target.orig_size
        pixels = corners[b][order] * np.array([width, height, width, height], np.float32)  # [N, 4]
        masks = None
        if outputs.masks is not None:
            masks = instance_masks(outputs.masks[b][order], padded_size(targets), target)
        found.append(Detections(target.image_id, scores[b][order], labels[b][order].astype(np.int64), pixels, masks,
                                order))
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., C + 1] → probabilities over the last axis, in the logits' own type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
