"""The training and the validation split of the dataset that the options name, in whichever layout it has."""

from pathlib import Path

from detr_jittor.config.options import DataConfig
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.faults import listed
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
    return CocoIndex.read(file, folder, masks)


def check_same_classes(train: CocoIndex, val: CocoIndex) -> None:
    """Errors: DetrError if the two do not name the same categories, so that labels would change their meaning."""
    if train.classes != val.classes:
        ours, theirs = (set(zip(i.classes.category_ids, i.classes.names)) for i in (train, val))
        differing = listed([f"{number} ({name})" for number, name in sorted(ours ^ theirs)])
        raise DetrError(f"{train.name} and {val.name} differ in category {differing}.",
                        "Give both files the same categories.")
