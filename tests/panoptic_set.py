"""A small dataset in COCO's panoptic layout, made by code: things (ellipses) of two kinds on a ground of stuff.

Every fourth picture has no segment at all, only void; every fifth has no things.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "dog", "isthing": 1},
              {"id": 200, "name": "grass", "isthing": 0}]
COLOURS = {1: (200, 60, 40), 2: (40, 60, 200), 200: (60, 160, 60)}


def write_panoptic_set(folder: Path, train: int, val: int, size: int) -> None:
    """Write `folder`/annotations, and the pictures and segments of both splits: squares of `size` pixels."""
    (folder / "annotations").mkdir(parents=True)
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        random = np.random.default_rng(seed)
        pictures, segments = folder / f"{split}2017", folder / f"panoptic_{split}2017"
        pictures.mkdir()
        segments.mkdir()
        annotations = []
        for number in range(1, count + 1):
            ids, categories = draw(random, number, size)
            colour = np.zeros((size, size, 3))
            for segment, category in categories.items():
                colour[ids == segment] = COLOURS[category]
            pixels = np.clip(colour + random.normal(0, 20, colour.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(pictures / f"{number:06}.png")
            coded = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
            Image.fromarray(coded.astype(np.uint8)).save(segments / f"{number:06}.png")
            annotations.append({"image_id": number, "file_name": f"{number:06}.png", "segments_info": [
                {"id": segment, "category_id": category, "iscrowd": 0, "area": int((ids == segment).sum()),
                 "bbox": box(ids == segment)} for segment, category in categories.items()]})
        images = [{"id": number, "file_name": f"{number:06}.png", "height": size, "width": size}
                  for number in range(1, count + 1)]
        (folder / "annotations" / f"panoptic_{split}2017.json").write_text(json.dumps(
            {"images": images, "annotations": annotations, "categories": CATEGORIES}))


def draw(random: np.random.Generator, number: int, size: int) -> tuple[np.ndarray, dict[int, int]]:
    """(segment ids [size, size], {segment id: category id}) of a picture; ids need all three bytes."""
    ids, categories = np.zeros((size, size), np.int64), {}
    if number % 4 == 0:
        return ids, categories
    ids[:] = 66_000 + number
    categories[66_000 + number] = 200
    y, x = np.mgrid[:size, :size] / size
    for thing in range(0 if number % 5 == 0 else int(random.integers(1, 3))):
        (cy, cx), (ry, rx) = random.uniform(0.45, 0.55, 2), random.uniform(0.42, 0.5, 2) / (1 + thing)
        segment = 131_000 + 7 * thing + number
        ids[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = segment
        categories[segment] = int(random.integers(1, 3))
    return ids, {segment: category for segment, category in categories.items() if (ids == segment).any()}


def box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1]
