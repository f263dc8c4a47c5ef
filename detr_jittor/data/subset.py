"""A smaller dataset cut out of a larger one. N pictures, C classes."""

import json
from pathlib import Path

import numpy as np

from detr_jittor.config.options import DataConfig
from detr_jittor.data.annotation_file import read_json
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.columns import meant
from detr_jittor.data.splits import open_split
from detr_jittor.data.writers import coco
from detr_jittor.data.writers.names import names_of, place_picture
from detr_jittor.errors import DetrError
from detr_jittor.twin.seeding import generator


def write_subset(data: DataConfig, folder: str | Path, train: int, val: int, seed: int = 0,
                 copy: bool = False) -> dict[str, CocoIndex]:
    """Write `folder` in COCO's layout with some of the pictures of `data.coco_path`.

    Args:
        train, val: number of pictures; all of them where there are less.
        copy: copy the pictures; else they are links.

    Returns: {"train": …, "val": …} the new indexes.

    Errors: DetrError for a number below one, a faulty dataset, or a folder that holds one or cannot be written.
    """
    folder = Path(folder)
    if train < 1 or val < 1:
        raise DetrError(f"a subset of {train} and {val} pictures cannot be.", "Ask for at least one picture each.")
    if (folder / "annotations").exists():
        raise DetrError(f"{folder}: holds a dataset already.", "Name another folder or remove this one.")
    written = {}
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        index = open_split(data, split)
        places = choose(presence(index), count, generator(seed, number))
        try:
            written[split] = write_split(folder, split, index.at(places), copy)
        except OSError as error:
            raise DetrError(f"{error.filename or folder}: cannot be written ({error.strerror}).",
                            "Name another folder, or pass --copy if links are not possible there.") from None
    return written


def presence(index: CocoIndex) -> np.ndarray:
    """[N, C] bool: whether a picture holds an object of a class, crowds not counted."""
    found = np.zeros((len(index), index.classes.num_classes), bool)
    for place in range(len(index)):
        objects = index.annotations(place)
        found[place, objects.labels[~objects.iscrowd]] = True
    return found


def choose(found: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The places [≤ count], ascending, of pictures in which as many classes as possible appear.

    First, one by one, the picture with most classes that no chosen one has; once there is none, pictures with objects
    at random, so that the rest is as the dataset is; last of all those without objects.

    Args:
        found: [N, C] bool, the classes in each picture.
    """
    order = random.permutation(len(found))  # decides between equals
    found = found[order]
    missing = found.any(axis=0)
    chosen: list[int] = []
    while len(chosen) < count and missing.any():
        best = int(found[:, missing].sum(axis=1).argmax())
        chosen.append(best)
        missing &= ~found[best]
    rest = np.setdiff1d(np.arange(len(found)), chosen)
    rest = rest[np.argsort(~found[rest].any(axis=1), kind="stable")]
    return np.sort(order[[*chosen, *rest[:count - len(chosen)]]])


def write_split(folder: Path, split: str, index: CocoIndex, copy: bool) -> CocoIndex:
    """Write a split in COCO's layout: with the records of its annotation file as they stand, where it has one."""
    images, file = folder / f"{split}2017", folder / "annotations" / f"instances_{split}2017.json"
    names = names_of({split: index}, together=False)
    if index.file.suffix == ".json" and index.file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        images.mkdir(parents=True, exist_ok=True)
        content, record_of = read_json(index.file), {}
        for image, name in zip(index.images, names[split]):
            place_picture(image.path, images / name, copy)
            record_of[image.id] = {"file_name": name, "height": image.height, "width": image.width}
        content["images"] = [{**i, **record_of[number]} for i in content["images"]
                             if (number := meant(i["id"])) in record_of]
        content["annotations"] = [a for a in content["annotations"] if meant(a["image_id"]) in record_of]
        file.write_text(json.dumps(content))
    else:
        coco.write(folder, {split: index}, names, copy)
    return CocoIndex.read(file, images)
