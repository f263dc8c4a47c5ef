"""Transforms against independent formulas, against torch where the reference uses it, and by their properties."""

import json
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_jittor.data import transforms
from detr_jittor.data.recipe import SCALES, Recipe
from detr_jittor.data.transforms import Sample, crop, has_area, hflip, resize, resize_masks, size_for
from detr_jittor.errors import DetrError

COCO_MINI = Path(__file__).parents[3] / "shared" / "coco-mini"


def exact_size(height: int, width: int, short: int, longest: int | None) -> tuple[int, int]:
    """The reference's rule in exact fractions instead of floating point."""
    low, high = min(height, width), max(height, width)
    if longest is not None and Fraction(high, low) * short > longest:
        short = round(Fraction(longest * low, high))
    long = high if low == short else floor(Fraction(short * high, low))
    return (short, long) if height <= width else (long, short)


# (height, width), short, longest → size; worked out by hand
SIZES = [
    ((480, 640), 800, 1333, (800, 1066)), ((640, 480), 800, 1333, (1066, 800)), ((500, 500), 800, 1333, (800, 800)),
    ((427, 640), 800, 1333, (800, 1199)), ((333, 500), 800, 1333, (800, 1201)), ((375, 500), 800, 1333, (800, 1066)),
    ((360, 640), 800, 1333, (750, 1333)), ((640, 360), 800, 1333, (1333, 750)),
    ((240, 640), 800, 1333, (500, 1333)), ((428, 640), 480, 1333, (480, 717)),
    ((335, 640), 736, 1333, (698, 1333)),  # round(697.7), not 697: cutting it off is off by a pixel
    ((300, 500), 800, 1333, (800, 1333)),  # 5/3 · 800 > 1333, so short = round(799.8)
    ((800, 1000), 800, 1333, (800, 1000)), ((100, 5000), 400, None, (400, 20000)),
]


@pytest.mark.parametrize("size, short, longest, expected", SIZES)
def test_sizes_worked_out_by_hand(size, short, longest, expected):
    assert size_for(*size, short, longest) == expected


sides = st.integers(1, 4000)


@given(height=sides, width=sides, short=st.integers(1, 1000), longest=st.none() | st.integers(1000, 1500))
def test_size_is_the_reference_rule(height, width, short, longest):
    expected = exact_size(height, width, short, longest)
    if min(expected) > 0:
        assert size_for(height, width, short, longest) == expected
    else:  # the reference fails there
        assert min(size_for(height, width, short, longest)) == 1
        assert max(size_for(height, width, short, longest)) <= longest


def test_size_of_each_real_picture():
    if not COCO_MINI.is_dir():
        pytest.skip("needs coco-mini")
    for split in ("train", "val"):
        content = json.loads((COCO_MINI / "annotations" / f"instances_{split}2017.json").read_text())
        for image in content["images"]:
            for short in SCALES:
                size = image["height"], image["width"]
                assert size_for(*size, short, 1333) == exact_size(*size, short, 1333)


@st.composite
def samples(draw, low: int = 1, high: int = 60, masks: bool = True) -> Sample:
    height, width = draw(st.integers(low, high)), draw(st.integers(low, high))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 5))
    ends = random.uniform(0, 1, (count, 2, 2)) * [width, height]
    boxes = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1).astype(np.float32)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(Image.fromarray(pixels), boxes, random.integers(0, 9, count),
                  ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).astype(np.float32),
                  np.zeros(count, bool), random.random((count, height, width)) < 0.5 if masks else None)


def same(a: Sample, b: Sample, tolerance: float = 0) -> bool:
    return (np.array_equal(np.asarray(a.image), np.asarray(b.image)) and np.array_equal(a.masks, b.masks)
            and np.array_equal(a.labels, b.labels) and np.allclose(a.boxes, b.boxes, rtol=0, atol=tolerance)
            and np.allclose(a.area, b.area, rtol=1e-6))


@given(samples())
def test_flip_mirrors_and_twice_is_identity(sample):
    flipped = hflip(sample)
    assert np.array_equal(np.asarray(flipped.image), np.asarray(sample.image)[:, ::-1])
    assert np.array_equal(flipped.masks, sample.masks[:, :, ::-1])
    assert np.allclose(flipped.boxes[:, 0], sample.image.width - sample.boxes[:, 2], atol=1e-5)
    assert has_area(flipped.boxes).tolist() == has_area(sample.boxes).tolist()
    assert same(hflip(flipped), sample, tolerance=1e-5)


@given(samples(), sides.filter(lambda s: s <= 90), sides.filter(lambda s: s <= 90))
def test_resize_scales_boxes_areas_and_masks(sample, height, width):
    result = resize(sample, (height, width))
    assert np.array_equal(np.asarray(result.image),
                          np.asarray(sample.image.resize((width, height), Image.Resampling.BILINEAR)))
    ratio = np.array([width / sample.image.width, height / sample.image.height] * 2)
    assert np.allclose(result.boxes, sample.boxes * ratio, rtol=1e-5)
    assert np.allclose(result.area, sample.area * ratio[0] * ratio[1], rtol=1e-5)
    if len(sample.masks):
        masks = torch.nn.functional.interpolate(torch.from_numpy(sample.masks)[:, None].float(), (height, width),
                                                mode="nearest")[:, 0] > 0.5
        assert np.array_equal(result.masks, masks.numpy())


def test_masks_are_resized_like_torch_over_many_sizes():
    random = np.random.default_rng(0)
    for old in (480, 427, 333, 17):
        row = random.random((1, old, 3)) < 0.5
        for new in (*SCALES, 1, 2, 999, 1333):
            theirs = torch.nn.functional.interpolate(torch.from_numpy(row)[None].float(), (new, 3), mode="nearest")
            assert np.array_equal(resize_masks(row, new, 3), theirs[0].numpy() > 0.5)


@given(samples(low=2), st.data())
def test_crop_clips_and_drops(sample, data):
    height, width = data.draw(st.integers(1, sample.image.height)), data.draw(st.integers(1, sample.image.width))
    top = data.draw(st.integers(0, sample.image.height - height))
    left = data.draw(st.integers(0, sample.image.width - width))
    result = crop(sample, top, left, height, width)
    assert result.size == (height, width)
    assert np.array_equal(np.asarray(result.image), np.asarray(sample.image)[top:top + height, left:left + width])
    kept = 0
    for x1, y1, x2, y2 in sample.boxes.tolist():  # the reference's rule, one box at a time
        a, b = min(max(x1 - left, 0), width), min(max(y1 - top, 0), height)
        c, d = min(max(x2 - left, 0), width), min(max(y2 - top, 0), height)
        if np.float32(c) > np.float32(a) and np.float32(d) > np.float32(b):
            assert np.allclose(result.boxes[kept], [a, b, c, d], atol=1e-5)
            assert np.isclose(result.area[kept], (c - a) * (d - b), rtol=1e-4, atol=1e-3)
            kept += 1
    assert len(result.boxes) == len(result.masks) == len(result.labels) == len(result.iscrowd) == kept


@settings(max_examples=60)
@given(sample=samples(low=4, high=120, masks=False), seed=st.integers(0, 2**32),
       augmentation=st.sampled_from(["full", "flip", "none"]))
def test_recipe_keeps_boxes_inside(sample, seed, augmentation):
    recipe = Recipe(augmentation, 80, 133)
    result = recipe(sample, np.random.default_rng(seed))
    height, width = result.size
    assert (result.boxes >= -1e-3).all() and (result.boxes <= np.array([width, height] * 2) + 1e-3).all()
    if augmentation != "full":
        assert result.size == size_for(*sample.size, 80, 133)
    again = recipe(sample, np.random.default_rng(seed))
    assert np.array_equal(np.asarray(again.image), np.asarray(result.image))
    assert np.array_equal(again.boxes, result.boxes)


class Draws:
    """A generator whose draws are given beforehand, which notes what it was asked."""

    def __init__(self, *values):
        self.values, self.asked = list(values), []

    def take(self, what):
        self.asked.append(what)
        return self.values.pop(0)

    def random(self):
        return self.take("random")

    def choice(self, options):
        return options[self.take(tuple(options))]

    def integers(self, low, high, endpoint):
        assert endpoint
        return self.take((int(low), int(high)))


def blank(height: int, width: int) -> Sample:
    return Sample(Image.new("RGB", (width, height)), np.zeros((0, 4), np.float32), np.zeros(0, np.int64),
                  np.zeros(0, np.float32), np.zeros(0, bool))


def test_the_two_ways_of_the_reference():
    recipe = Recipe("full", 800, 1333)
    draws = Draws(0.5, 0.49, 3)  # no flip, no crop
    assert recipe(blank(480, 640), draws).size == (576, 768) and draws.values == []
    # resize to 500 → 500×666, crop of 384 … 600 (at most the picture), and the scale 672
    draws = Draws(0.49, 0.5, 1, 450, 500, 0, 216, 6)
    left_half = blank(480, 640)
    left_half.image.paste((255, 255, 255), (0, 0, 320, 480))
    result = recipe(left_half, draws)
    assert result.size == (746, 672) and draws.values == []
    assert result.image.getpixel((600, 400)) == (255, 255, 255) and result.image.getpixel((100, 400)) == (0, 0, 0)
    scales = tuple(range(480, 801, 32))
    assert draws.asked == ["random", "random", (400, 500, 600), (384, 600), (384, 500), (0, 0), (0, 216), scales]


def test_sizes_shrink_with_min_size():
    recipe = Recipe("full", 320, 480)
    draws = Draws(0.9, 0.6, 0, 154, 154, 3, 3, 0)
    # 0.4 · (400; 384 … 600; 480) = 160; 154 … 240; 192
    assert recipe(blank(480, 640), draws).size == (192, 192)
    assert draws.asked[3:7] == [(154, 213), (154, 160), (0, 6), (0, 59)]
    assert [Recipe("full", 800, 1333).shrunk(s) for s in SCALES] == list(SCALES)


def test_strips_are_not_blown_up():
    assert max(Recipe("full", 800, 1333)(blank(2, 3000), Draws(0.9, 0.9, 0, 10)).size) <= 1500
    assert Recipe("none", 800, 1333)(blank(1, 3000), Draws()).size == (1, 1333)


@pytest.mark.parametrize("sizes", [(0, 10), (-5, 10), (20, 10)])
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(DetrError, match="--min_size"):
        Recipe("full", *sizes)


def test_normalised_as_torch_does():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    out = np.zeros((3, 16, 16), np.float32)
    transforms.write_normalized(Image.fromarray(pixels), out)
    theirs = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs.sub_(mean[:, None, None]).div_(std[:, None, None])
    assert np.array_equal(out, theirs.numpy())


def test_normalised_into_a_part_of_a_batch():
    out = np.zeros((2, 3, 9, 9), np.float32)
    transforms.write_normalized(Image.new("RGB", (4, 5), (255, 255, 255)), out[1, :, :5, :4])
    assert np.allclose(out[1, :, :5, :4].mean(axis=(1, 2)), (1 - transforms.MEAN) / transforms.STD)
    assert (out[0] == 0).all() and (out[1, :, 5:] == 0).all() and (out[1, :, :, 4:] == 0).all()
