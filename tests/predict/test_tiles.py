"""Pictures in tiles, with a finder of bright rectangles in place of a model, so that what must be found is known."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from detr_jittor.errors import DetrError
from detr_jittor.predict import tiles
from detr_jittor.types import Detections


@dataclass
class Finder:
    """Finds rectangles, each of which has a grey of its own, of at least `smallest` of the longer side of what it is
    shown; cut ones with the lower score that a model has for them."""

    smallest: float = 0.04
    masks: bool = False
    is_panoptic: bool = False
    seen: list = field(default_factory=list)

    def detect_all(self, pictures: list[np.ndarray], threshold=None) -> list[Detections]:
        return [self.detect(pixels) for pixels in pictures]

    def detect(self, pixels: np.ndarray) -> Detections:
        self.seen.append(pixels.shape[:2])
        grey, rows = pixels[:, :, 0], []
        for value in np.unique(grey[grey > 0]):
            ys, xs = ndimage.find_objects((grey == value).astype(int))[0]
            if max(xs.stop - xs.start, ys.stop - ys.start) >= self.smallest * max(grey.shape):
                rows.append((value, xs.start, ys.start, xs.stop, ys.stop))
        boxes = np.array([row[1:] for row in rows], np.float32).reshape(-1, 4)
        masks = np.array([grey == row[0] for row in rows], bool).reshape(-1, *grey.shape) if self.masks else None
        scores = np.array([0.5 + row[0] / 1000 for row in rows], np.float32)
        return Detections(0, scores, np.array([row[0] % 2 for row in rows], np.int64), boxes, masks)


RECTANGLES = {  # grey → x1, y1, x2, y2; small ones at many places, and some larger than a tile
    10: (5, 5, 25, 20), 11: (190, 190, 210, 212), 12: (300, 100, 322, 118), 13: (960, 660, 1000, 700),
    14: (395, 300, 415, 310), 15: (600, 50, 620, 70), 16: (606, 80, 622, 96), 20: (100, 250, 480, 640),
    21: (500, 150, 990, 400), 22: (150, 300, 170, 320)}  # the last one lies within 20, is of its class, and is one


@pytest.fixture
def picture() -> np.ndarray:
    pixels = np.zeros((700, 1000, 3), np.uint8)
    for grey, (x1, y1, x2, y2) in sorted(RECTANGLES.items(), key=lambda r: r[0] not in (20, 21)):
        pixels[y1:y2, x1:x2] = grey
    return pixels


def test_everything_is_found_once_and_whole(picture):
    finder = Finder()
    whole = {tuple(box) for box in finder.detect(picture).boxes.astype(int).tolist()}
    assert len(whole) < len(RECTANGLES) / 2  # the small ones need tiles
    found = tiles.find_in_tiles(finder, picture, 200)
    assert {tuple(box) for box in found.boxes.astype(int).tolist()} == set(RECTANGLES.values())
    assert len(found.scores) == len(RECTANGLES) and (np.diff(found.scores) <= 0).all()
    assert set(finder.seen[2:]) == {(200, 200)}


def test_a_small_picture_is_looked_at_as_a_whole(picture):
    finder = Finder()
    tiles.find_in_tiles(finder, picture[:150, :200], 200)
    assert finder.seen == [(150, 200)]


@pytest.mark.parametrize("height, width, side", [(700, 1000, 200), (200, 1000, 200), (150, 1000, 200), (201, 200, 200),
                                                 (4000, 6001, 640)])
def test_tiles_cover_the_picture_and_overlap(height, width, side):
    found = tiles.tiles_of(height, width, side)
    assert all((x2 - x1, y2 - y1) == (min(side, width), min(side, height)) for x1, y1, x2, y2 in found)
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(tile[low], tile[high]) for tile in found})
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(a[1] - b[0] >= tiles.OVERLAP * side - 1 for a, b in pairwise(spans))


def test_masks_are_put_into_the_picture(picture):
    found = tiles.find_in_tiles(Finder(masks=True), picture, 200)
    assert found.masks.shape == (len(RECTANGLES), 700, 1000)
    for mask, box in zip(found.masks, found.boxes.astype(int).tolist()):
        (grey,) = (g for g, r in RECTANGLES.items() if r == tuple(box))
        assert np.array_equal(mask, picture[:, :, 0] == grey)


def test_two_of_one_tile_are_two():
    """What one tile says twice the model means twice; only tiles are compared with each other."""
    boxes = np.array([[10, 10, 50, 50], [12, 10, 50, 50]], np.float32)
    twice = Detections(0, np.float32([0.9, 0.8]), np.int64([1, 1]), boxes)
    none = Detections(0, np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert len(tiles.together([none, twice], [(0, 0, 300, 300), (100, 100, 200, 200)], (300, 300)).scores) == 2
    shifted = Detections(0, twice.scores, twice.labels, boxes + np.float32([[100] * 4]))
    assert len(tiles.together([shifted, twice], [(0, 0, 300, 300), (100, 100, 200, 200)], (300, 300)).scores) == 2
    other = Detections(0, twice.scores, np.int64([2, 2]), shifted.boxes)
    assert len(tiles.together([other, twice], [(0, 0, 300, 300), (100, 100, 200, 200)], (300, 300)).scores) == 4


def test_what_does_not_go(picture):
    with pytest.raises(DetrError, match="tiles of 8 pixels are too small"):
        tiles.find_in_tiles(Finder(), picture, 8)
    with pytest.raises(DetrError, match="not with the segments"):
        tiles.find_in_tiles(Finder(is_panoptic=True), picture, 200)
