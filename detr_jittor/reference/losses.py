"""The losses of sections 3.1 and A.2 of the paper, and the two figures that are only logged.

B batch, Q queries, C classes, T objects of one picture, N matched pairs of the whole batch, P pixels of a mask.
"""

import numpy as np

from detr_jittor.reference import boxes as ref


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., K] → probabilities over the last axis."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """[..., K] → log probabilities over the last axis; finite where `softmax` would round to 0."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(logits: np.ndarray, classes: np.ndarray, eos_coef: float = 0.1) -> float:
    """The class loss: −Σ w[c]·log p[c] / Σ w[c] over all queries, with w = eos_coef for the last class, else 1.

    The divisor is the sum of the weights, not the number of queries.

    Args:
        logits: [B, Q, C + 1]. classes: [B, Q], C for "no object".
    """
    log_p = log_softmax(logits)
    no_object = log_p.shape[-1] - 1
    total = weights = 0.0
    for place in np.ndindex(classes.shape):
        weight = eos_coef if classes[place] == no_object else 1.0
        total -= weight * log_p[place][classes[place]]
        weights += weight
    return total / weights


def target_classes(labels: list[np.ndarray], assignments: list, queries: int, num_classes: int) -> np.ndarray:
    """The class each query should say: its object's label, or num_classes ("no object") → [B, Q] int64.

    Args:
        labels: [T] of each picture. assignments: the `types.Assignment` of each picture.
    """
    classes = np.full((len(labels), queries), num_classes, np.int64)
    for picture, (of_picture, assignment) in enumerate(zip(labels, assignments)):
        for query, thing in zip(assignment.queries, assignment.objects):
            classes[picture, query] = of_picture[thing]
    return classes


def num_boxes(labels: list[np.ndarray], processes: int = 1) -> float:
    """The divisor of the box losses: all objects of the batch, averaged over the processes, and at least 1."""
    return max(sum(len(of_picture) for of_picture in labels) / processes, 1.0)


def box_l1(boxes: np.ndarray, targets: np.ndarray, divisor: float) -> float:
    """[N, 4] matched centre boxes and their objects → Σ |difference| over pairs and coordinates / divisor."""
    return float(np.abs(ref.float64(boxes) - ref.float64(targets)).sum() / divisor)


def box_giou(boxes: np.ndarray, targets: np.ndarray, divisor: float) -> float:
    """[N, 4] matched centre boxes and their objects → Σ (1 − GIoU) over pairs / divisor."""
    pairs = zip(ref.corners(boxes), ref.corners(targets))
    return sum(1 - ref.pair_giou(a, b) for a, b in pairs) / divisor


def class_error(logits: np.ndarray, classes: np.ndarray) -> float:
    """Percentage of matched queries whose best class ("no object" included) is not their object's; 100 without any.

    Args:
        logits: [N, C + 1] of the matched queries. classes: [N].
    """
    right = sum(int(np.argmax(row) == c) for row, c in zip(logits, classes))
    return 100.0 - (100.0 * right / len(classes) if len(classes) else 0.0)


def cardinality_error(logits: np.ndarray, sizes: list[int]) -> float:
    """Mean over pictures of |queries whose best class is not "no object" − number of objects|.

    Args:
        logits: [B, Q, C + 1]. sizes: T of each picture.
    """
    no_object = logits.shape[-1] - 1
    found = [sum(int(np.argmax(query) != no_object) for query in picture) for picture in logits]
    return sum(abs(f - size) for f, size in zip(found, sizes)) / len(sizes)


def focal(logits: np.ndarray, targets: np.ndarray, divisor: float, alpha: float = 0.25, gamma: float = 2.0) -> float:
    """The focal mask loss (arXiv 1708.02002, eq. 5), meaned over the pixels, summed over the masks, / divisor.

    Args:
        logits: [N, P]. targets: [N, P] 0 or 1.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    sign = np.where(targets > 0.5, 1.0, -1.0)
    log_pt = -np.logaddexp(0.0, -sign * logits)  # log of the probability given to the truth
    weight = np.where(targets > 0.5, alpha, 1 - alpha) * (1 - np.exp(log_pt)) ** gamma
    return float((-weight * log_pt).mean(axis=1).sum() / divisor)


def focal_classes(logits: np.ndarray, classes: np.ndarray, divisor: float, alpha: float = 0.25,
                  gamma: float = 2.0) -> float:
    """The focal class loss: the sum over queries and classes, each class by itself, / divisor.

    Args:
        logits: [B, Q, C]. classes: [B, Q], C for none.
    """
    kinds = logits.shape[-1]
    truth = np.asarray(classes)[..., None] == np.arange(kinds)  # [B, Q, C]
    return focal(logits.reshape(-1, 1), truth.reshape(-1, 1), divisor, alpha, gamma)


def quality_classes(logits: np.ndarray, classes: np.ndarray, quality: np.ndarray, divisor: float,
                    gamma: float = 1.5) -> float:
    """The class loss of DEIM (arXiv 2412.04234, eq. 3): the sum over queries and classes, each by itself, / divisor.

    −q^γ·log p − (1 − q^γ)·log(1 − p) for the class of a query's object, −p^γ·log(1 − p) for the others.

    Args:
        logits: [B, Q, C]. classes: [B, Q], C for none. quality: [B, Q] IoU of the query's box with its object.
    """
    x = np.asarray(logits, np.float64)
    log_p, log_not = -np.logaddexp(0.0, -x), -np.logaddexp(0.0, x)
    goal = np.asarray(quality, np.float64)[..., None] ** gamma
    own = np.asarray(classes)[..., None] == np.arange(x.shape[-1])  # [B, Q, C]
    losses = np.where(own, -goal * log_p - (1 - goal) * log_not, -np.exp(gamma * log_p) * log_not)
    return float(losses.sum() / divisor)


def focal_cardinality_error(logits: np.ndarray, sizes: list[int]) -> float:
    """Mean over pictures of |queries with a class above one half − number of objects|: [B, Q, C] and T of each"""
    found = [sum(int(query.max() > 0) for query in picture) for picture in logits]
    return sum(abs(f - size) for f, size in zip(found, sizes)) / len(sizes)


def dice(logits: np.ndarray, targets: np.ndarray, divisor: float) -> float:
    """The dice loss (arXiv 1606.04797, here with sums, not squares, and 1 added above and below), / divisor.

    Σ over masks of 1 − (2·Σ p·t + 1) / (Σ p + Σ t + 1), p = sigmoid(logits).

    Args:
        logits: [N, P]. targets: [N, P] 0 or 1.
    """
    p, t = np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64))), np.asarray(targets, np.float64)
    return float((1 - (2 * (p * t).sum(axis=1) + 1) / (p.sum(axis=1) + t.sum(axis=1) + 1)).sum() / divisor)
