"""Properties of boxes and of their oracle in float64, on boxes that hypothesis chooses."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detr_jittor.reference import boxes as ref
from detr_jittor.twin import boxes

# Sixteenths: equal edges, touching and nested boxes are common then, and most sums are exact.
# No subnormal numbers: Jittor's operators, if another test has run some, flush them to zero in the whole process
FLOATS = {"allow_subnormal": False}
PLACES = st.integers(-64, 64).map(lambda n: n / 16) | st.floats(-1e3, 1e3, **FLOATS).map(lambda x: round(x, 6))
SIZES = st.integers(0, 64).map(lambda n: n / 16) | st.floats(0, 1e3, **FLOATS).map(lambda x: round(x, 6))


@st.composite
def corner_boxes(draw, dtype=np.float64):
    n = draw(st.integers(0, 5))
    low = draw(arrays(dtype, (n, 2), elements=PLACES))
    return np.concatenate([low, low + draw(arrays(dtype, (n, 2), elements=SIZES))], axis=1)  # [N, 4]


@given(corner_boxes())
def test_conversions_undo_each_other_and_match_the_oracle(a):
    centres = boxes.xyxy_to_cxcywh(a)
    np.testing.assert_allclose(centres, ref.centres(a), atol=1e-9)
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(centres), a, atol=1e-9)
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(centres), ref.corners(centres), atol=1e-9)


@given(corner_boxes(), corner_boxes())
def test_iou_and_giou_keep_their_ranges(a, b):
    overlap = ref.iou(a, b)
    giou = ref.generalized_iou(a, b)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-9)).all()
    assert ((giou >= -1 - 1e-9) & (giou <= overlap + 1e-9)).all()
    np.testing.assert_allclose(giou, ref.generalized_iou(b, a).T, atol=1e-9)


@given(corner_boxes(), st.floats(-50, 50, **FLOATS), st.sampled_from([0.5, 2.0, 8.0]))
def test_giou_does_not_change_under_shift_and_scale(a, shift, scale):
    expected = ref.generalized_iou(a, a)
    np.testing.assert_allclose(ref.generalized_iou(a * scale, a * scale), expected, atol=1e-9)
    moved = a + round(shift * 16) / 16
    np.testing.assert_allclose(ref.generalized_iou(moved, moved), expected, atol=1e-5)


@given(corner_boxes())
def test_a_box_with_area_is_itself(a):
    solid = a[boxes.area(a) > 1e-6]
    np.testing.assert_allclose(np.diag(ref.iou(solid, solid)), 1, atol=1e-6)
    np.testing.assert_allclose(np.diag(ref.generalized_iou(solid, solid)), 1, atol=1e-6)


def test_float32_stays_float32():
    a = np.array([[0.1, 0.1, 0.4, 0.5]], np.float32)
    assert boxes.cxcywh_to_xyxy(a).dtype == boxes.xyxy_to_cxcywh(a).dtype == np.float32
