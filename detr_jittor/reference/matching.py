"""The matching of section 3.1 of the paper, by trying every assignment.

Q queries, C classes, T objects of one picture.
"""

from itertools import permutations

import numpy as np

from detr_jittor.reference import boxes as ref
from detr_jittor.reference.losses import focal, softmax


def matching_cost(logits: np.ndarray, boxes: np.ndarray, labels: np.ndarray, target_boxes: np.ndarray,
                  cost_class: float = 1.0, cost_bbox: float = 5.0, cost_giou: float = 2.0) -> np.ndarray:
    """The cost of giving each object to each query, one picture.

    cost = cost_class · (−p[label]) + cost_bbox · ‖box − target‖₁ + cost_giou · (−GIoU). The class term is −p and not
    −log p (section 3.1: it makes the terms commensurable).

    Args:
        logits: [Q, C + 1]. boxes: [Q, 4] centre boxes. labels: [T]. target_boxes: [T, 4] centre boxes, same unit.

    Returns: [Q, T] float64.
    """
    probability = softmax(logits)  # [Q, C + 1]
    boxes, target_boxes = ref.float64(boxes), ref.float64(target_boxes)
    giou = ref.generalized_iou(ref.corners(boxes), ref.corners(target_boxes))  # [Q, T]
    cost = np.zeros((len(boxes), len(target_boxes)))
    for q in range(len(boxes)):
        for t in range(len(target_boxes)):
            distance = sum(abs(boxes[q, i] - target_boxes[t, i]) for i in range(4))
            cost[q, t] = -cost_class * probability[q, labels[t]] + cost_bbox * distance - cost_giou * giou[q, t]
    return cost


def focal_matching_cost(logits: np.ndarray, boxes: np.ndarray, labels: np.ndarray, target_boxes: np.ndarray,
                        cost_focal: float = 2.0, cost_bbox: float = 5.0, cost_giou: float = 2.0,
                        alpha: float = 0.25) -> np.ndarray:
    """The same, with the class term of Deformable DETR (arXiv 2010.04159): the focal loss of the object's class as the
    truth less that of it as no truth.

    Args:
        logits: [Q, C]; the others as `matching_cost`. Returns: [Q, T] float64.
    """
    cost = matching_cost(logits, boxes, labels, target_boxes, 0.0, cost_bbox, cost_giou)
    for q, t in np.ndindex(cost.shape):
        x = logits[q:q + 1, labels[t]:labels[t] + 1]
        cost[q, t] += cost_focal * (focal(x, np.ones((1, 1)), 1, alpha) - focal(x, np.zeros((1, 1)), 1, alpha))
    return cost


def cheapest_assignment(cost: np.ndarray) -> tuple[float, list[tuple[int, int]]]:
    """[Q, T] → (total cost, [(query, object), …] by query) of the best one-to-one assignment of min(Q, T) pairs.

    Every assignment is tried: for small cases only (Q!/(Q − T)! of them).
    """
    cost = np.asarray(cost, np.float64)
    queries, objects = cost.shape
    if objects <= queries:
        candidates = (list(zip(chosen, range(objects))) for chosen in permutations(range(queries), objects))
    else:
        candidates = (list(zip(range(queries), chosen)) for chosen in permutations(range(objects), queries))
    total, pairs = min((sum(cost[pair] for pair in pairs), pairs) for pairs in candidates)
    return float(total), sorted(pairs)
