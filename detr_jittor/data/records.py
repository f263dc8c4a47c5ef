"""The pictures, classes and objects of a COCO file, with every fault noted and every oddity remarked.

N pictures, M objects in all, T objects in one picture.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from detr_jittor.data import columns
from detr_jittor.data.columns import Records
from detr_jittor.data.faults import listed
from detr_jittor.data.masks import drawable, segmentation_fault
from detr_jittor.types import Classes

ROUNDING = 1.0  # pixels by which a box may reach past its picture before that is worth a remark


@dataclass(frozen=True)
class ImageRecord:
    id: int
    path: str  # of the file, the image folder included
    height: int  # pixels
    width: int  # pixels


@dataclass(frozen=True)
class Annotations:
    """The objects of one picture, or of all pictures one after the other."""

    boxes: np.ndarray  # [T, 4] float64, (x, y, width, height) in pixels, as the file has them
    labels: np.ndarray  # [T] int64, class numbers
    area: np.ndarray  # [T] float64, square pixels
    iscrowd: np.ndarray  # [T] bool
    difficult: np.ndarray  # [T] bool, as VOC marks them; COCO has none
    segmentations: list | None  # T lists of polygons or run lengths, where masks were asked for

    def __len__(self) -> int:
        return len(self.boxes)

    def rows(self, rows: slice | np.ndarray) -> "Annotations":
        """The objects of these rows: a slice, or their numbers [T]."""
        segmentations = self.segmentations
        if segmentations is not None:
            segmentations = (segmentations[rows] if isinstance(rows, slice) else [segmentations[r] for r in rows])
        return Annotations(self.boxes[rows], self.labels[rows], self.area[rows], self.iscrowd[rows],
                           self.difficult[rows], segmentations)


def read_images(records: Records, folder: Path) -> tuple[list[ImageRecord], dict[int, int]]:
    """The pictures and {image id: place in the list}."""
    ids = records.column("id", columns.is_id, "an integer from 0")
    records.unique("id", ids)
    names = records.column("file_name", columns.is_text, "the name of a file, in Unicode")
    heights = records.column("height", columns.is_side, "a whole number of pixels from 1")
    widths = records.column("width", columns.is_side, "a whole number of pixels from 1")
    listings: dict[str, frozenset[str]] = {}
    for position, name in enumerate(names):
        if name is not None:
            check_file(records, position, name, str(folder), listings)
    images = [ImageRecord(i, os.path.join(folder, n or ""), h, w) for i, n, h, w in zip(ids, names, heights, widths)]
    return images, {i: place for place, i in enumerate(ids) if i is not None}


def check_file(records: Records, position: int, name: str, folder: str, listings: dict) -> None:
    """Note a picture that is outside the folder or missing. Every folder is listed once, no file is looked at.

    A link within the folder may lead anywhere: its owner placed it there, the annotation file cannot.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        records.fault(position, "file_name leads out of the image folder", "Give it relative to that folder.",
                      columns.shortened(name))
        return
    parent = os.path.join(folder, os.path.dirname(name))
    if parent not in listings:
        try:
            listings[parent] = frozenset(os.listdir(parent))
        except (OSError, ValueError):  # ValueError: a null character in the name
            listings[parent] = frozenset()
    if path.name not in listings[parent]:
        records.fault(position, f"no such file in {folder}", "Add the picture or remove its record.",
                      columns.shortened(name))


def read_classes(records: Records, remarks: list[str]) -> Classes:
    ids = records.column("id", columns.is_category_id, "an integer")
    records.unique("id", ids)
    names = records.column("name", columns.is_text, "a text in Unicode")
    counts = Counter(names)
    if shared := sorted({name for name in names if name is not None and counts[name] > 1}):
        remarks.append(f"categories share a name ({listed(shared)}): their ids are added to the names")
    return Classes.of_categories([{"id": i, "name": f"{n} ({i})" if counts[n] > 1 else n}
                                  for i, n in zip(ids, names) if i is not None and n is not None])


def read_objects(records: Records, images: list[ImageRecord], place_of: dict[int, int], classes: Classes, masks: bool,
                 remarks: list[str]) -> tuple[np.ndarray, Annotations]:
    """The place [M] of each object's picture (-1 at a fault), and all objects in the order of the file."""
    owner = records.known(
        "image_id", records.column("image_id", columns.is_id, "an integer from 0"), place_of, "an image")
    labels = records.known("category_id", records.column("category_id", columns.is_category_id, "an integer"),
                           classes.label_of(), "a category")
    crowd = records.column("iscrowd", columns.is_flag, "0 or 1", default=0)
    difficult = records.column("difficult", columns.is_flag, "0 or 1", default=0)
    boxes = records.column("bbox", columns.is_box, "[x, y, width, height], finite numbers, no negative size")
    boxes = np.array([b or (np.nan,) * 4 for b in boxes], np.float64).reshape(-1, 4)
    areas = records.column("area", columns.is_area, "a finite number of square pixels from 0", default=None)
    areas = np.array([np.nan if a is None else a for a in areas], np.float64)
    check_boxes(records, boxes, owner, images, remarks)
    if without := sum("iscrowd" not in record for record in records.records):
        remarks.append(f"{without} {records.kind}s have no iscrowd: 0 is taken")
    if without := int(np.isnan(areas).sum()):
        remarks.append(f"{without} {records.kind}s have no area: that of their box is taken")
        areas = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)
    segmentations = read_segmentations(records, owner, images, remarks) if masks else None
    return owner, Annotations(boxes, labels, areas, np.array(crowd) == 1, np.array(difficult) == 1, segmentations)


def check_boxes(records: Records, boxes: np.ndarray, owner: np.ndarray, images: list[ImageRecord],
                remarks: list[str]) -> None:
    """Note boxes [M, 4] that are wholly outside their picture, count those that are clipped or have no area."""
    sides = np.array([[i.width or np.nan, i.height or np.nan] for i in images], np.float64).reshape(-1, 2)
    # [M, 2]; NaN where the box or the picture is at fault, so that every comparison there is false
    limit = np.append(sides, [[np.nan, np.nan]], axis=0)[owner]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    empty = (boxes[:, 2:] == 0).any(axis=1)
    outside = ~empty & ((low >= limit) | (high <= 0)).any(axis=1)
    past = ~empty & ~outside & ((low < -ROUNDING) | (high > limit + ROUNDING)).any(axis=1)
    for row in np.flatnonzero(outside):
        records.fault(row, "bbox lies outside its picture", "Correct or remove it.", boxes[row].tolist())
    for rows, what in ((empty, "boxes have no area and are left out of training"),
                       (past, "boxes reach past their picture and are clipped in training")):
        if rows.any():
            numbers = listed([records.records[r].get("id") for r in np.flatnonzero(rows)])
            remarks.append(f"{int(rows.sum())} {what} (annotation {numbers})")


def read_segmentations(records: Records, owner: np.ndarray, images: list[ImageRecord], remarks: list[str]) -> list:
    """[M] the segmentations, None at a fault."""
    found = records.column("segmentation", lambda s: type(s) in (list, dict), "polygons or run lengths")
    undrawn = 0
    for row, segmentation in enumerate(found):
        if segmentation is None or owner[row] < 0:
            continue
        image = images[owner[row]]
        if None in (image.height, image.width):
            continue
        if what := segmentation_fault(segmentation, image.height, image.width):
            records.fault(row, what, "Correct or remove it.")
        elif type(segmentation) is list:
            undrawn += sum(not drawable(p, image.height, image.width) for p in segmentation)
    if undrawn:
        remarks.append(f"{undrawn} polygons have less than three corners or lie far outside: they are not drawn")
    return found
