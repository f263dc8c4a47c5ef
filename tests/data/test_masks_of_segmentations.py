"""Masks from polygons and run lengths, against pycocotools."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as oracle

from detr_jittor.data.masks import segmentation_fault, segmentation_mask, segmentation_masks

corner = st.floats(-5, 70, allow_nan=False, allow_subnormal=False, width=32)
polygons = st.lists(st.lists(corner, min_size=6, max_size=16).filter(lambda p: len(p) % 2 == 0), min_size=1, max_size=3)


@given(polygons)
def test_polygons(segmentation):
    assert segmentation_fault(segmentation, 50, 60) == ""
    theirs = oracle.decode(oracle.merge(oracle.frPyObjects(segmentation, 50, 60)))
    assert np.array_equal(segmentation_mask(segmentation, 50, 60), theirs.astype(bool))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32))
def test_run_lengths_come_back(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    runs = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": [height, width], "counts": runs["counts"].decode()}
    columns = mask.T.ravel()
    changes = np.flatnonzero(np.diff(columns)) + 1
    counts = np.diff([0, *([0] if columns[0] else []), *changes, columns.size]).tolist()
    for segmentation in (text, {"size": [height, width], "counts": counts}):
        assert segmentation_fault(segmentation, height, width) == ""
        assert np.array_equal(segmentation_mask(segmentation, height, width), mask)


def test_several_objects_and_none():
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    masks = segmentation_masks([square, [*square, [1, 2, 3, 4]]], 8, 9)
    assert masks.shape == (2, 8, 9) and masks[0].sum() == 16 and np.array_equal(masks[0], masks[1])
    assert segmentation_masks([], 8, 9).shape == (0, 8, 9)
