"""A dataset of any layout, written in another."""

from pathlib import Path

from detr_jittor.config.options import DataConfig
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.splits import open_all
from detr_jittor.data.writers import coco, voc, yolo
from detr_jittor.data.writers.names import names_of
from detr_jittor.errors import DetrError

WRITERS = {"coco": coco.write, "yolo": yolo.write, "voc": voc.write}


def convert(data: DataConfig, folder: str | Path, to: str, masks: bool = False,
            copy: bool = False) -> tuple[dict[str, CocoIndex], list[str]]:
    """Write all splits of a dataset to a folder.

    Args:
        to: "coco", "yolo" or "voc".
        masks: with outlines, which every object must have then.
        copy: copy the pictures; else they are links.

    Returns: the splits, and what is lost, in words.

    Errors: DetrError for a faulty dataset, or a folder that is not empty or cannot be written.
    """
    folder = Path(folder)
    if masks and to == "voc":
        raise DetrError("--masks does not go with --to voc, whose XML files hold boxes.", "Leave one out.")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DetrError(f"{folder}: is not empty.", "Name another folder or remove this one.")
        splits = open_all(data, masks)
        lost = WRITERS[to](folder, splits, names_of(splits, together=to == "voc"), copy)
    except OSError as error:
        raise DetrError(f"{error.filename or folder}: cannot be written ({error.strerror}).",
                        "Name another folder, or pass --copy if links are not possible there.") from None
    return splits, lost
