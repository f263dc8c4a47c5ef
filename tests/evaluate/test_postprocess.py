"""From outputs to detections, by hand and against the oracle."""

import numpy as np
import pytest

from detr_jittor.errors import DetrError
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.reference import boxes as ref
from detr_jittor.reference import losses
from detr_jittor.types import Outputs, Target


def target(image_id, height, width):
    nothing = np.zeros(0)
    return Target(image_id, nothing, nothing.reshape(0, 4), nothing, nothing, (7, 7), (height, width))


def test_scores_labels_and_pixels_by_hand():
    p = np.array([[[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.05, 0.9, 0.05]]], np.float32)  # the last is "no object"
    boxes = np.array([[[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 0.2], [0.1, 0.1, 0.4, 0.2]]], np.float32)
    (found,) = detections(Outputs(np.log(p), boxes), [target(42, height=100, width=200)])
    assert found.image_id == 42
    assert found.labels.tolist() == [1, 0, 1]  # best first; the query that says "no object" comes last with 0.2
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [[-20, 0, 60, 20], [0, 40, 100, 60], [0, 0, 200, 100]], atol=1e-4)
    assert found.scores.dtype == found.boxes.dtype == np.float32 and found.labels.dtype == np.int64


def test_one_detection_a_query_against_the_oracle():
    random = np.random.default_rng(0)
    outputs = Outputs(random.normal(size=(2, 9, 5)).astype(np.float32) * 30, random.random((2, 9, 4), np.float32))
    sizes = [(100, 200), (333, 50)]
    found = detections(outputs, [target(i, *size) for i, size in enumerate(sizes)])
    for i, (height, width) in enumerate(sizes):
        p = losses.softmax(outputs.logits[i])[:, :-1]
        order = np.argsort(-p.max(axis=1))
        np.testing.assert_allclose(found[i].scores, p.max(axis=1)[order], rtol=1e-5)
        np.testing.assert_array_equal(found[i].labels, p.argmax(axis=1)[order])
        expected = ref.corners(outputs.boxes[i])[order] * [width, height, width, height]
        np.testing.assert_allclose(found[i].boxes, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("field", ["logits", "boxes"])
def test_outputs_that_are_not_finite_are_an_error(field):
    outputs = Outputs(np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32))
    getattr(outputs, field)[0, 1, 1] = np.nan
    with pytest.raises(DetrError, match="not finite"):
        detections(outputs, [target(1, 10, 10)])


def test_where_each_class_has_a_probability_the_best_of_queries_and_classes():
    """By hand: a query can have two classes; two boxes of one class that are nearly the same are one."""
    logits = np.array([[[2.0, 1.0], [1.5, -3.0], [-1.0, 0.5]]], np.float32)  # [1, 3, 2]
    boxes = np.array([[[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.42, 0.4], [0.2, 0.2, 0.2, 0.2]]], np.float32)
    (found,) = detections(Outputs(logits, boxes, each=True), [target(7, 100, 200)], 0.3)
    assert found.queries.tolist() == [0, 0, 2] and found.labels.tolist() == [0, 1, 1]  # the second query's is a double
    assert np.allclose(found.scores, 1 / (1 + np.exp([-2.0, -1.0, -0.5])))
    assert np.allclose(found.boxes[0], [60, 30, 140, 70])
    # Intersection over union .4 / .55 = .73 and .4 / .6 = .67, on either side of the limit
    for width, queries in ((0.55, [0, 0, 2]), (0.6, [0, 1, 0, 2])):
        boxes[0, 1, 2] = width
        (found,) = detections(Outputs(logits, boxes, each=True), [target(7, 100, 200)], 0.3)
        assert found.queries.tolist() == queries
    apart = np.random.default_rng(0).random((1, 60, 4)).astype(np.float32) / 9
    many = Outputs(np.zeros((1, 60, 2), np.float32), apart, each=True)
    assert 50 < len(detections(many, [target(7, 100, 200)])[0].scores) <= 100
