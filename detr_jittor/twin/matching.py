"""Hungarian matching of queries to objects (section 3.1 of the paper), on NumPy costs.

Both twins compute the cost of every decoder layer on their own, fetch it at once, and are matched here.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from detr_jittor.errors import DetrError
from detr_jittor.types import Assignment


def match(cost: np.ndarray, sizes: list[int], groups: int = 1) -> list[list[Assignment]]:
    """The cheapest one-to-one assignment, for each decoder layer, picture and group of queries by itself.

    Args:
        cost: [L, B, Q, ΣT] cost of every query against the objects of all pictures of the batch, side by side.
        sizes: T of each picture; they add up to ΣT.
        groups: R, of equally many queries each.

    Returns: `result[layer][picture · R + group]`. With more objects than queries, the queries take the cheapest ones.

    Errors: DetrError if a cost is not finite (scipy would raise in its own words, other solvers answer silently).
    """
    if not np.isfinite(cost).all():
        raise DetrError("the matching cost is not finite: the model's outputs have diverged.",
                        "Lower --lr, or clip the gradients (--clip_max_norm 0.1).")
    ends = np.cumsum(sizes)
    return [[assignment(queries[:, end - size:end])
             for picture, size, end in zip(layer, sizes, ends) for queries in np.split(picture, groups)]
            for layer in cost]


def assignment(cost: np.ndarray) -> Assignment:
    """[Q, T] → the cheapest assignment, queries ascending as scipy returns them."""
    queries, objects = linear_sum_assignment(cost)
    return Assignment(queries.astype(np.int64), objects.astype(np.int64))


def flat_indices(indices: list[list[Assignment]], sizes: list[int], shape: tuple[int, int, int]):
    """The matched pairs of all layers: position in the flattened [L, B, Q], and object of the batch → [L·M] each"""
    start = np.cumsum([0, *sizes])
    rows = [(np.ravel_multi_index((layer, picture, a.queries), shape), a.objects + start[picture])
            for layer, pictures in enumerate(indices) for picture, a in enumerate(pictures)]
    return tuple(np.concatenate(column) for column in zip(*rows))
