"""The oracle's losses against cases worked out by hand and against PyTorch's own functions in float64."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from detr_jittor.reference import losses
from detr_jittor.types import Assignment

RANDOM = np.random.default_rng(0)


def assignment(queries, objects):
    return Assignment(np.array(queries, np.int64), np.array(objects, np.int64))


def test_cross_entropy_divides_by_the_weights():
    logits = np.log([[[0.5, 0.5], [0.25, 0.75]]])  # [1, 2, 1 + 1]
    loss = losses.cross_entropy(logits, np.array([[0, 1]]), eos_coef=0.1)
    assert loss == pytest.approx((math.log(2) + 0.1 * math.log(4 / 3)) / 1.1, abs=1e-15)
    assert losses.cross_entropy(logits, np.array([[1, 1]]), 0.1) == losses.cross_entropy(logits, np.array([[1, 1]]), 1)


@pytest.mark.parametrize("scale", [1, 40, 1e4])
def test_cross_entropy_against_pytorch(scale):
    logits, classes = RANDOM.normal(size=(3, 7, 5)) * scale, RANDOM.integers(0, 5, (3, 7))
    weight = torch.ones(5, dtype=torch.float64)
    weight[-1] = 0.3
    theirs = functional.cross_entropy(torch.tensor(logits).transpose(1, 2), torch.tensor(classes), weight)
    assert losses.cross_entropy(logits, classes, 0.3) == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(losses.softmax(logits), torch.tensor(logits).softmax(-1).numpy(), rtol=1e-13)


def test_target_classes_by_hand():
    labels = [np.array([7, 8]), np.array([], np.int64)]
    classes = losses.target_classes(labels, [assignment([0, 2], [1, 0]), assignment([], [])], 3, 9)
    assert classes.tolist() == [[8, 9, 7], [9, 9, 9]]


def test_num_boxes():
    labels = [np.zeros(3), np.zeros(0)]
    assert losses.num_boxes(labels) == 3
    assert losses.num_boxes(labels, processes=2) == 1.5
    assert losses.num_boxes([np.zeros(0)]) == 1


def test_box_losses_by_hand():
    boxes, targets = [[1, 1, 2, 2], [1, 1, 2, 2]], [[2, 2, 2, 2], [1, 1, 2, 2]]
    assert losses.box_l1(boxes, targets, 4) == pytest.approx(2 / 4)
    assert losses.box_giou(boxes, targets, 4) == pytest.approx((1 - (1 / 7 - 2 / 9) + 0) / 4)
    assert losses.box_l1([], [], 1) == losses.box_giou([], [], 1) == 0


def test_class_error_counts_no_object_as_wrong():
    logits = np.eye(3)[[0, 2, 1, 1]]  # says class 0, "no object", 1, 1
    assert losses.class_error(logits, np.array([0, 1, 1, 0])) == 50
    assert losses.class_error(logits[:0], np.array([], int)) == 100


def test_cardinality_error_by_hand():
    logits = np.eye(3)[[[0, 1, 2], [2, 2, 2]]]  # two found, none found
    assert losses.cardinality_error(logits, [3, 4]) == pytest.approx((1 + 4) / 2)
    assert losses.cardinality_error(logits, [2, 0]) == 0


def test_mask_losses_by_hand():
    even = np.zeros((1, 4))  # p = 1/2 everywhere
    targets = np.array([[1, 0, 0, 0]])
    assert losses.focal(even, targets, 2) == pytest.approx((0.25 + 3 * 0.75) / 4 * 0.25 * math.log(2) / 2)
    assert losses.dice(even, targets, 2) == pytest.approx((1 - (2 * 0.5 + 1) / (2 + 1 + 1)) / 2)


def test_class_loss_with_quality_by_hand():
    """At one half the class of the object costs log 2 whatever the quality, another a half to the power γ of that."""
    even, classes = np.zeros((1, 2, 2)), np.array([[0, 2]])
    wanted = (1 + 3 * 0.5**1.5) * math.log(2) / 2
    assert losses.quality_classes(even, classes, np.array([[0.3, 0.0]]), 2) == pytest.approx(wanted)
    sure = np.array([[[4.0, -800.0]]])  # of its class; the quality is what the probability should be, to the power
    p = 1 / (1 + math.exp(-4.0))
    wanted = -(0.25**1.5) * math.log(p) - (1 - 0.25**1.5) * math.log(1 - p)
    assert losses.quality_classes(sure, np.array([[0]]), np.array([[0.25]]), 1) == pytest.approx(wanted)


def test_mask_losses_against_their_formulas_in_pytorch():
    logits, targets = RANDOM.normal(size=(5, 33)) * 8, (RANDOM.random((5, 33)) < 0.4).astype(float)
    x, t = torch.tensor(logits), torch.tensor(targets)
    p, entropy = x.sigmoid(), functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    truth = p * t + (1 - p) * (1 - t)
    focal = ((0.25 * t + 0.75 * (1 - t)) * (1 - truth) ** 2 * entropy).mean(1).sum() / 3
    assert losses.focal(logits, targets, 3) == pytest.approx(focal.item(), rel=1e-12)
    dice = (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).sum() / 3
    assert losses.dice(logits, targets, 3) == pytest.approx(dice.item(), rel=1e-12)
    assert losses.focal(np.array([[800.0]]), np.array([[0]]), 1) == pytest.approx(0.75 * 800)
