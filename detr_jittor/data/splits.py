"""The training and the validation split of the dataset that the options name, in whichever layout it has."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from detr_jittor.config.options import DataConfig
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.faults import listed
from detr_jittor.data.masks import Rectangle
from detr_jittor.data.panoptic import open_panoptic
from detr_jittor.errors import DetrError


def open_split(data: DataConfig, split: str, masks: bool = False) -> CocoIndex:
    """The "train" or "val" split of the dataset that the options name, in COCO's layout or its panoptic one.

    Errors: DatasetError with all faults; DetrError if a file or folder is missing.
    """
    if data.dataset_file == "coco_panoptic":
        return open_panoptic(data, split, masks)
    if not data.coco_path:
        raise DetrError("no dataset is given.", "Pass --coco_path FOLDER.")
    root = Path(data.coco_path)
    file, folder = root / "annotations" / f"instances_{split}2017.json", root / f"{split}2017"
    layout = f"--coco_path takes a folder with annotations/{file.name} and {folder.name}/."
    if not root.is_dir():
        raise DetrError(f"{root}: no such folder.", layout)
    if not file.is_file():
        raise DetrError(f"{file}: no such file.", layout)
    if not folder.is_dir():
        raise DetrError(f"{folder}: no such folder.", layout)
    return with_crowds(CocoIndex.read(file, folder, masks), data.crowds)


def with_crowds(index: CocoIndex, choice: str) -> CocoIndex:
    """The dataset with its crowds as `--crowds` says; what becomes of many of them is remarked."""
    objects = index.objects
    count, total = int(objects.iscrowd.sum()), len(objects)
    if choice == "objects" and count:
        boxed = [isinstance(s, Rectangle) for s in objects.segmentations or ()] or np.zeros(total, bool)
        index = index.with_objects(replace(objects, iscrowd=np.array(boxed)))  # without an outline there is no mask
        index.remarks.append(f"{count} crowds are taken as objects")
    elif 2 * count > total:
        index.remarks.append(f"{count} of {total} objects are crowds (iscrowd 1), which are neither trained on nor "
                             "measured; if each is one object, pass --crowds objects")
    return index


def open_splits(data: DataConfig, masks: bool = False) -> tuple[CocoIndex, CocoIndex]:
    """Both splits, the validation one with the labels of the training one. Errors: as `open_split` and `alike`."""
    train, val = (open_split(data, split, masks) for split in ("train", "val"))
    return train, alike(train, val)


def alike(train: CocoIndex, val: CocoIndex) -> CocoIndex:
    """The validation split with the labels that the training split gives its classes, which are matched by name.

    It may name fewer classes, and under other ids. Errors: DetrError for a name that the training split lacks.
    """
    known = train.classes.labels_for(val.classes)
    if unknown := [f"{number} ({name})" for number, name, label in zip(
            val.classes.category_ids, val.classes.names, val.classes.labels) if label not in known]:
        raise DetrError(f"{val.name} has category {listed(unknown)}, of which {train.name} knows no such name.",
                        "Give both files the same names.")
    return val.relabelled(train.classes)
