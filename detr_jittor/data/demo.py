"""The demo set: small pictures of shapes on textured grounds, in COCO's layout, the same for the same seed.

Every object comes with the box and the run lengths of what is visible of it, so that the set serves for boxes and
masks alike. S is the side of a picture in pixels.
"""

import json
import math
from colorsys import hsv_to_rgb
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detr_jittor.errors import DetrError, writing
from detr_jittor.twin.seeding import generator

SHAPES = ("circle", "square", "triangle", "star")
MOST = 4  # objects in a picture
RADIUS = (0.13, 0.27)  # of a shape, as a fraction of S
VISIBLE = 0.75  # the least fraction of an object that later ones may leave visible
FINENESS = 4  # shapes are drawn so many times larger and shrunk, for smooth edges
TURN = math.pi / 8  # of a shape, at most, either way
GREYNESS = 14  # how far apart the channels of the ground's colour are, at most
HUES = 0.6  # the part of a class's own quarter of the hues that its shapes take
TRIES = 40  # places tried for an object before the picture goes without it


def write_demo_set(folder: str | Path, train: int = 800, val: int = 200, size: int = 128, seed: int = 0) -> None:
    """Write `folder`/annotations, train2017 and val2017.

    Args:
        train, val: number of pictures.
        size: their side in pixels.

    Errors: DetrError if the folder holds another dataset or cannot be written.
    """
    folder = Path(folder)
    if train < 1 or val < 1 or size < 32:
        raise DetrError(f"a demo set of {train} and {val} pictures of {size} pixels cannot be.",
                        "Ask for at least one picture each, of at least 32 pixels.")
    if (folder / "annotations").exists():
        raise DetrError(f"{folder}: holds a dataset already.", "Name another folder or remove this one.")
    with writing(f"{folder}:", "Name another folder."):
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            write_split(folder, split, count, size, (seed, number))


def write_split(folder: Path, split: str, count: int, size: int, seed: tuple[int, int]) -> None:
    (folder / f"{split}2017").mkdir(parents=True)
    images, annotations = [], []
    for image_id in range(1, count + 1):
        picture, objects = draw_picture(generator(*seed, image_id), size)
        name = f"{image_id:06}.jpg"
        Image.fromarray(picture).save(folder / f"{split}2017" / name, quality=92, subsampling=0)
        images.append({"id": image_id, "file_name": name, "height": size, "width": size})
        for shape, mask in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id,
                                "category_id": SHAPES.index(shape) + 1, **annotation_of(mask)})
    content = {
        "info": {"description": f"DETR-Jittor demo set, {split}, seed {seed[0]}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number + 1, "name": shape} for number, shape in enumerate(SHAPES)],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def draw_picture(random: np.random.Generator, size: int) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """[S, S, 3] uint8, and of each object its shape's name and what is visible of it, [S, S] bool."""
    grey = random.uniform(60, 190) + random.uniform(-GREYNESS / 2, GREYNESS / 2, 3)
    picture = texture(random, size, grey, strength=30)
    objects: list[tuple[str, np.ndarray]] = []
    full: list[int] = []  # pixels of each object, hidden ones included
    for _ in range(random.integers(1, MOST, endpoint=True)):
        for _ in range(TRIES):
            shape = SHAPES[random.integers(len(SHAPES))]
            alpha = draw_shape(random, shape, size)  # [S, S] in 0 … 1
            mask = alpha > 0.5
            if all((m & ~mask).sum() >= VISIBLE * pixels for (_, m), pixels in zip(objects, full)):
                break
        else:
            continue
        surface = texture(random, size, vivid_colour(random, shape), strength=12)
        picture = picture + alpha[:, :, None] * (surface - picture)
        objects = [(name, m & ~mask) for name, m in objects] + [(shape, mask)]
        full.append(int(mask.sum()))
    grain = random.normal(0, 4, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8), objects


def texture(random: np.random.Generator, size: int, colour: np.ndarray, strength: float) -> np.ndarray:
    """[S, S, 3] float64: a colour, clouds over it, and stripes in a random direction."""
    cells = int(random.integers(3, 9))
    clouds = Image.fromarray(random.normal(0, 1, (cells, cells)).astype(np.float32))
    clouds = np.asarray(clouds.resize((size, size), Image.Resampling.BICUBIC), np.float64)
    angle, waves, phase = random.uniform(0, math.pi), random.uniform(2, 12), random.uniform(0, 2 * math.pi)
    y, x = np.mgrid[:size, :size] / size
    stripes = np.sin(2 * math.pi * waves * (x * math.cos(angle) + y * math.sin(angle)) + phase)
    shade = clouds * random.uniform(0.3, 1) + stripes * random.uniform(0, 0.7)
    return colour + strength * shade[:, :, None]


def draw_shape(random: np.random.Generator, shape: str, size: int) -> np.ndarray:
    """[S, S] float64: how much of each pixel a shape at a random place, size and angle covers."""
    radius = random.uniform(*RADIUS) * size
    centre = random.uniform(radius + 1, size - radius - 1, 2)
    canvas = Image.new("L", (size * FINENESS, size * FINENESS))
    corners = (centre + radius * outline(shape, random.uniform(-TURN, TURN))) * FINENESS
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners], fill=255)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float64) / 255


def outline(shape: str, angle: float) -> np.ndarray:
    """[corners, 2] a shape in the unit circle, upright and then turned by an angle."""
    count = {"circle": 64, "square": 4, "triangle": 3, "star": 10}[shape]
    upright = math.pi / 4 if shape == "square" else -math.pi / 2
    angles = upright + angle + np.arange(count) * 2 * math.pi / count
    reach = np.where(np.arange(count) % 2, 0.42, 1.0) if shape == "star" else np.ones(count)
    return reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def vivid_colour(random: np.random.Generator, shape: str) -> np.ndarray:
    """[3] a colour out of the hues of a class: so that a small model learns within minutes what is what."""
    hue = (SHAPES.index(shape) + HUES * random.uniform(-0.5, 0.5)) / len(SHAPES)
    return 255 * np.array(hsv_to_rgb(hue % 1, random.uniform(0.65, 1), random.uniform(0.7, 1)))


def annotation_of(mask: np.ndarray) -> dict:
    """Box, area and run lengths of a mask [S, S]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    pixels = mask.T.ravel()  # run lengths go down the columns and begin with the background
    changes = np.flatnonzero(np.diff(pixels)) + 1
    counts = np.diff([*([0] if pixels[0] else []), 0, *changes, pixels.size])
    return {"bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y], "area": int(mask.sum()), "iscrowd": 0,
            "segmentation": {"size": list(mask.shape), "counts": counts.tolist()}}
