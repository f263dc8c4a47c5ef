"""Pictures much larger than a model's size: looked at in overlapping tiles and as a whole.

N detections of all tiles.
"""

import math

import numpy as np

from detr_jittor.errors import DetrError
from detr_jittor.predict.predictor import Predictor, Threshold
from detr_jittor.twin import boxes as box
from detr_jittor.types import Detections

OVERLAP = 0.25  # of a tile's side: an object that is smaller is whole in one of them
SAME = 0.5  # intersection over union of two boxes of different tiles that are one object
WITHIN = 0.5  # share of a cut box that lies in another, from which it is a part of that one
EDGE = 2  # pixels from the edge of a tile, within which a box is cut by it
SMALLEST, AT_ONCE = 32, 4  # a tile's side in pixels; tiles that go through the model together

Tile = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels


def find_in_tiles(predictor: Predictor, pixels: np.ndarray, side: int, threshold: Threshold = None) -> Detections:
    """The objects in a picture [H, W, 3] uint8, from tiles of `side` pixels and from the whole picture.

    The tiles find small objects, the whole picture finds those that are larger than a tile.

    Errors: DetrError for a side that cannot be, and with a panoptic model.
    """
    if predictor.is_panoptic:
        raise DetrError("tiles go with objects, not with the segments of a panoptic model.", "Leave out --tile.")
    if side < SMALLEST:
        raise DetrError(f"tiles of {side} pixels are too small.", f"Give at least {SMALLEST}.")
    height, width = pixels.shape[:2]
    whole = (0, 0, width, height)
    found = predictor.detect_all([pixels], threshold)
    if max(height, width) <= side:
        return found[0]
    tiles = tiles_of(height, width, side)
    for first in range(0, len(tiles), AT_ONCE):
        parts = [pixels[y1:y2, x1:x2] for x1, y1, x2, y2 in tiles[first:first + AT_ONCE]]
        found += predictor.detect_all(parts, threshold)
    return together(found, [whole, *tiles], (height, width))


def tiles_of(height: int, width: int, side: int) -> list[Tile]:
    """Tiles of the same size, evenly spread, that overlap by at least `OVERLAP`, row by row."""
    return [(x, y, x + min(side, width), y + min(side, height))
            for y in places(height, side) for x in places(width, side)]


def places(length: int, side: int) -> list[int]:
    """Where tiles begin along one side of a picture."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side * (1 - OVERLAP))) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def together(found: list[Detections], tiles: list[Tile], size: tuple[int, int]) -> Detections:
    """The detections of all tiles in the picture's pixels, each object once.

    Whole boxes come before cut ones, then the better score. A box is left out where one of another tile and the same
    class, that is kept, is nearly the same; and a cut box also where it lies in such a one.
    """
    corners = np.concatenate([part.boxes + np.array(tile[:2] * 2, np.float32) for part, tile in zip(found, tiles)])
    scores, labels, owner = (np.concatenate(rows) for rows in (
        [part.scores for part in found], [part.labels for part in found],
        [np.full(len(part.scores), k) for k, part in enumerate(found)]))
    cut = np.concatenate([is_cut(part.boxes, tile, size) for part, tile in zip(found, tiles)])  # [N]
    shared, areas = box.intersections(corners, corners), box.area(corners)  # [N, N], [N]
    same = shared / np.maximum(areas[:, None] + areas[None] - shared, 1e-9) >= SAME
    within = cut[:, None] & (shared / np.maximum(areas, 1e-9)[:, None] >= WITHIN)  # row in column
    rival = (same | within) & (labels[:, None] == labels[None]) & (owner[:, None] != owner[None])
    kept: list[int] = []
    for n in np.lexsort((-scores, cut)):
        if not rival[n, kept].any():
            kept.append(int(n))
    kept.sort(key=lambda n: -scores[n])
    masks = whole_masks(found, tiles, size, kept) if found[0].masks is not None else None
    return Detections(0, scores[kept], labels[kept], corners[kept], masks)


def is_cut(boxes: np.ndarray, tile: Tile, size: tuple[int, int]) -> np.ndarray:
    """[N, 4] (x1, y1, x2, y2) in a tile's own pixels → [N] bool: whether they reach an edge within the picture."""
    (x1, y1, x2, y2), (height, width) = tile, size
    inner = np.array([x1 > 0, y1 > 0, x2 < width, y2 < height])
    gaps = np.stack([boxes[:, 0], boxes[:, 1], x2 - x1 - boxes[:, 2], y2 - y1 - boxes[:, 3]], axis=1)  # [N, 4]
    return ((gaps < EDGE) & inner).any(axis=1)


def whole_masks(found: list[Detections], tiles: list[Tile], size: tuple[int, int], kept: list[int]) -> np.ndarray:
    """[kept, H, W] bool of the masks in their tiles."""
    every = [(mask, tile) for part, tile in zip(found, tiles) for mask in part.masks]
    masks = np.zeros((len(kept), *size), bool)
    for mask, n in zip(masks, kept):
        of_tile, (x1, y1, x2, y2) = every[n]
        mask[y1:y2, x1:x2] = of_tile
    return masks
