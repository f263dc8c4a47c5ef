"""A tiny dataset of pictures of many sizes, for comparisons that need no photographs."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.twin.seeding import generator

CATEGORIES = (3, 40, 700, 5000)  # so large that labels are not the ids themselves
OBJECTS = 4  # at most, in a picture
# Height and width of the first pictures for validation, in pixels: two batches of two that have one size and other
# padding, which is what a fault in what is kept by size needs to be seen.
VAL_SIZES = ((90, 120), (90, 90), (90, 120), (90, 110))


def write_sample(folder: Path, seed: int, train: int = 10, val: int = 8, sides: tuple[int, int] = (70, 120)) -> None:
    """Write `folder`/annotations, train2017 and val2017: blurred noise with random boxes.

    Args: sides: shortest and longest side in pixels, of all but the first pictures for validation.
    """
    (folder / "annotations").mkdir(parents=True)
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        (folder / f"{split}2017").mkdir()
        content = {"images": [], "annotations": [], "categories": [{"id": c, "name": f"kind {c}"} for c in CATEGORIES]}
        for image_id in range(1, count + 1):
            rng = generator(seed, number, image_id)
            height, width = (int(side) for side in rng.integers(*sides, 2))
            if split == "val" and image_id <= len(VAL_SIZES):
                height, width = VAL_SIZES[image_id - 1]
            name = f"{image_id:06}.png"
            noise = Image.fromarray(rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8))
            noise.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{split}2017" / name)
            content["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
            for _ in range(rng.integers(1, OBJECTS, endpoint=True)):
                content["annotations"].append(
                    {"id": len(content["annotations"]) + 1, "image_id": image_id, **random_object(rng, height, width)})
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def random_object(rng: np.random.Generator, height: int, width: int) -> dict:
    w, h = rng.uniform(0.2, 0.6, 2) * (width, height)
    x, y = rng.uniform(0, (width - w, height - h))
    return {"category_id": int(rng.choice(CATEGORIES)), "bbox": [float(v) for v in (x, y, w, h)],
            "area": float(w * h), "iscrowd": 0}
