"""Where pictures go in a dataset that is written."""

import os
import shutil
from pathlib import Path, PurePosixPath

from detr_jittor.data.coco import CocoIndex


def names_of(splits: dict[str, CocoIndex], together: bool) -> dict[str, list[str]]:
    """{split: the file name of each picture}: its own, without folders, made unique by a number, because labels are
    found by it whatever its suffix.

    Args: together: all splits lie in one folder.
    """
    names, taken = {}, set()
    for split, index in splits.items():
        taken = taken if together else set()
        names[split] = [unique(PurePosixPath(image.path).name, taken) for image in index.images]
    return names


def unique(name: str, taken: set[str]) -> str:
    stem, suffix = os.path.splitext(name)
    candidate, number = stem, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}_{number}"
    taken.add(candidate.casefold())
    return candidate + suffix


def place_picture(source: str, target: Path, copy: bool) -> None:
    """Copy a picture, or link to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if copy:
        shutil.copyfile(source, target)
    else:
        os.symlink(os.path.realpath(source), target)
