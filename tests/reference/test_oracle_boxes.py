"""The oracle's boxes and matching against cases worked out by hand."""

import numpy as np
import pytest

from detr_jittor.reference import boxes as ref
from detr_jittor.reference.matching import cheapest_assignment, matching_cost


def test_conversions_by_hand():
    assert ref.corners([[5, 6, 4, 2]]).tolist() == [[3, 5, 7, 7]]
    assert ref.centres([[3, 5, 7, 7]]).tolist() == [[5, 6, 4, 2]]
    assert ref.corners(np.zeros((0, 4))).shape == ref.centres(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("a, b, iou, giou", [
    ([0, 0, 2, 2], [0, 0, 2, 2], 1, 1),
    ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),  # union 7 in an enclosing box of 9
    ([0, 0, 1, 1], [2, 0, 3, 1], 0, -1 / 3),  # union 2 in an enclosing box of 3
    ([0, 0, 4, 4], [1, 1, 2, 3], 2 / 16, 2 / 16),  # one within the other
    ([0, 0, 1, 1], [1, 0, 2, 1], 0, 0),  # touching
    ([0, 0, 1, 1], [9, 9, 10, 10], 0, -0.98),
    ([1, 1, 1, 1], [1, 1, 1, 1], 0, 0),  # no area at all
    ([0, 0, 0, 0], [2, 2, 2, 2], 0, -1),
])
def test_iou_by_hand(a, b, iou, giou):
    assert ref.iou([a], [b])[0, 0] == pytest.approx(iou, abs=1e-15)
    assert ref.generalized_iou([a], [b])[0, 0] == pytest.approx(giou, abs=1e-15)


def test_cost_by_hand():
    logits = np.log([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
    boxes = np.array([[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.4, 0.2]])
    target = np.array([[0.5, 0.5, 0.2, 0.2]])
    cost = matching_cost(logits, boxes, np.array([1]), target)
    # query 0: p = .2, distance 0, GIoU 1;  query 1: p = .8, distance .2, GIoU 1/2
    np.testing.assert_allclose(cost, [[-0.2 - 2], [-0.8 + 5 * 0.2 - 2 * 0.5]], atol=1e-12)
    other = matching_cost(logits, boxes, np.array([1]), target, cost_class=10, cost_bbox=100, cost_giou=1000)
    np.testing.assert_allclose(other, [[-2 - 1000], [-8 + 20 - 500]], atol=1e-9)


def test_cheapest_assignment_by_hand():
    greedy_is_wrong = np.array([[1, 2], [1, 9], [5, 5]])
    assert cheapest_assignment(greedy_is_wrong) == (3, [(0, 1), (1, 0)])
    assert cheapest_assignment(greedy_is_wrong.T) == (3, [(0, 1), (1, 0)])
    assert cheapest_assignment(np.zeros((3, 0))) == (0, [])
