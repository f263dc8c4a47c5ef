"""Which places of the encoder's output the queries begin at, and which of them stand for an object: the choices of
two-stage detection (Deformable DETR, arXiv 2010.04159, appendix A.4), in NumPy, so that both twins make the same.

B batch, S places, T objects of a picture, M places that stand for an object.
"""

from collections.abc import Sequence

import numpy as np

from detr_jittor.types import Target

TIE = 1e-5  # squared distances that differ by less are the same: a last digit must not decide


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The places with the highest scores, in the order in which they lie: [B, S] → [B, count] int64

    Of equal ones the first are taken. In their own order, two places that score nearly the same do not change theirs
    with a last digit, which would give each the other's query.
    """
    return np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :count], axis=1)


def standing_for(targets: Sequence[Target], centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place that stands for each object: the nearest one, the first of several. Where it is the same for several
    objects, it stands for the one that is nearest, and the others have none. Distances are by the sides of the object's
    box.

    With more places an object would take more queries than one, and a picture with many objects has not enough.

    Args: centres [B, S, 2] of the places (x, y) as a fraction of each picture's own size; far away for a place in the
        padding.

    Returns: places in the flattened [B, S] and their objects of the batch → [M] each.
    """
    places, objects, before = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for picture, target in enumerate(targets):
        away = (centres[picture] - target.boxes[:, None, :2]) / target.boxes[:, None, 2:]  # [T, S, 2]
        distance = np.square(away).sum(2)  # [T, S]
        least = distance.min(1)  # [T]
        nearest = (distance < least[:, None] + TIE).argmax(1)  # [T]
        order = np.round(least / TIE).argsort(kind="stable")  # [T] objects, the nearest first
        taken, first = np.unique(nearest[order], return_index=True)  # [≤ T] each
        places.append(picture * centres.shape[1] + taken)
        objects.append(before + order[first])
        before += len(target.labels)
    return np.concatenate(places), np.concatenate(objects)
