"""The pictures, classes and objects of a COCO file, with every fault noted and every oddity remarked.

N pictures, M objects in all, T objects in one picture.
"""

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detr_jittor.data import columns
from detr_jittor.data.columns import Records
from detr_jittor.data.decode import upright_size
from detr_jittor.data.faults import Fault, listed
from detr_jittor.data.listing import Listing
from detr_jittor.data.locate import located
from detr_jittor.data.masks import Rectangle, drawable, segmentation_fault
from detr_jittor.errors import DetrError
from detr_jittor.types import Classes

ROUNDING = 1.0  # pixels by which a box may reach past its picture before that is worth a remark
NEAR = 0.05  # of a picture's side: boxes outside by no more are left out,
FEW = 10  # as long as they are no more than these, or one of a hundred


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


def read_images(records: Records, folder: Path, around: Listing, remarks: list[str], split: str = "",
                paths: list[str] | None = None) -> tuple[list[ImageRecord], dict[int, int]]:
    """The pictures and {image id: place in the list}.

    Args:
        paths: of the pictures, where they are known; else the names are looked for, see `located`.
    """
    ids = records.column("id", columns.is_id, columns.ID, reads=columns.whole)
    records.unique("id", ids)
    names = records.column("file_name", columns.is_text, "the name of a file, in Unicode")
    paths = located(records, names, str(folder), around, remarks, split) if paths is None else paths
    take_sizes(records, names, paths, remarks)
    heights, widths = (records.column(key, columns.is_side, "a whole number of pixels from 1", reads=columns.whole)
                       for key in ("height", "width"))
    images = [ImageRecord(i, p, h, w) for i, p, h, w in zip(ids, paths, heights, widths)]
    return images, {i: place for place, i in enumerate(ids) if i is not None}


def take_sizes(records: Records, names: list[str | None], paths: list[str], remarks: list[str]) -> None:
    """Give the records without a size that of their picture, where it can be read."""
    without = [row for row, record in enumerate(records.records) if names[row] is not None and
               (record.get("height") is None or record.get("width") is None)]
    taken = 0
    for row in without:
        with contextlib.suppress(DetrError):  # the record keeps its fault: it has no height and no width
            height, width = upright_size(paths[row])
            records.records[row].update(height=height, width=width)
            taken += 1
    if taken:
        remarks.append(f"{taken} {records.kind}s have no width and height: those of the pictures are taken")


def read_classes(records: Records, remarks: list[str]) -> Classes:
    ids = records.column("id", columns.is_category_id, columns.CATEGORY_ID, reads=columns.whole)
    names = records.column("name", columns.is_text, "a text in Unicode", reads=columns.text)
    seen, repeated = set(), 0
    for row, category in enumerate(zip(ids, names)):
        if category in seen and None not in category:
            ids[row] = names[row] = None
            repeated += 1
        seen.add(category)
    if repeated:
        remarks.append(f"{repeated} categories are given again, with the same name: once is taken")
    records.unique("id", ids)
    counts = Counter(names)
    if shared := sorted({name for name in names if name is not None and counts[name] > 1}):
        remarks.append(f"categories share a name ({listed(shared)}): their ids are added to the names")
    return Classes.of_categories([{"id": i, "name": f"{n} ({i})" if counts[n] > 1 else n}
                                  for i, n in zip(ids, names) if i is not None and n is not None])


def read_objects(records: Records, images: list[ImageRecord], place_of: dict[int, int], categories: Records,
                 classes: Classes, masks: bool, remarks: list[str]) -> tuple[np.ndarray, Annotations]:
    """The place [M] of each object's picture (-1 where it is left out), and all objects in the order of the file.

    A record of a picture or a category that is at fault itself makes no further fault of those that point to it.
    """
    owners = records.column("image_id", columns.is_id, columns.ID, reads=columns.whole)
    owner = records.known("image_id", owners, place_of, "an image", complete=len(place_of) == len(images))
    numbers = [c.get("id") for c in categories.records]
    numbers = [i for i in numbers if columns.is_category_id(i)]
    labels = records.known(
        "category_id", records.column("category_id", columns.is_category_id, columns.CATEGORY_ID, reads=columns.whole),
        {**dict.fromkeys(numbers, 0), **classes.label_of()}, "a category", complete=len(numbers) == len(categories))
    crowd, difficult = (records.column(key, columns.is_flag, "0 or 1", default=0, reads=columns.whole)
                        for key in ("iscrowd", "difficult"))
    boxes = records.column("bbox", columns.is_box, "[x, y, width, height], finite numbers, no negative size",
                           reads=columns.numbers)
    boxes = np.array([b or (np.nan,) * 4 for b in boxes], np.float64).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 0)  # NaN stays
    areas = records.column("area", columns.is_area, "a finite number of square pixels from 0", default=None,
                           reads=columns.number)
    areas = np.array([np.nan if a is None else a for a in areas], np.float64)
    outside = check_boxes(records, boxes, owner, images, remarks)
    if without := sum("iscrowd" not in record for record in records.records):
        remarks.append(f"{without} {records.kind}s have no iscrowd: 0 is taken")
    if without := int(np.isnan(areas).sum()):
        remarks.append(f"{without} {records.kind}s have no area: that of their box is taken")
        areas = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)
    crowd, segmentations = np.array(crowd) == 1, None
    if masks:
        segmentations = read_segmentations(records, owner, boxes, images, remarks)
        crowd |= np.array([isinstance(s, Rectangle) for s in segmentations], bool)
    return (np.where(outside, -1, owner),
            Annotations(boxes, labels, areas, crowd, np.array(difficult) == 1, segmentations))


def check_boxes(records: Records, boxes: np.ndarray, owner: np.ndarray, images: list[ImageRecord],
                remarks: list[str]) -> np.ndarray:
    """Note boxes [M, 4] that are wholly outside their picture, count those that are clipped or have no area.

    Returns: [M] bool, those that lie just outside and are left out. A box far outside is a fault: it may belong to
        another picture; so are many just outside, which no rounding explains.
    """
    sides = np.array([[i.width or np.nan, i.height or np.nan] for i in images], np.float64).reshape(-1, 2)
    # [M, 2]; NaN where the box or the picture is at fault, so that every comparison there is false
    limit = np.append(sides, [[np.nan, np.nan]], axis=0)[owner]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    empty = (boxes[:, 2:] == 0).any(axis=1)
    gap = np.maximum(low - limit, -high)  # [M, 2] from the picture's edge to the box, negative where they overlap
    outside = ~empty & (gap >= 0).any(axis=1)
    near = outside & (gap <= np.maximum(ROUNDING, NEAR * limit)).all(axis=1)
    if 2 * near.sum() > len(boxes) or near.sum() > max(FEW, len(boxes) // 100):
        near[:] = False
    past = ~empty & ~outside & ((low < -ROUNDING) | (high > limit + ROUNDING)).any(axis=1)
    if len(boxes) and not empty.all() and (boxes[:, 2:] <= 1).all() and (limit > 2).any():
        records.faults.append(Fault(f"{records.kind}s", "all boxes are smaller than a pixel (are they fractions of the "
                                    "picture's size?)", "Give them in pixels."))
        outside[:] = False
    for row in np.flatnonzero(outside & ~near):
        records.fault(row, "bbox lies outside its picture", "Correct or remove it.", boxes[row].tolist())
    for rows, what in ((empty, "boxes have no area and are left out of training"),
                       (near, "boxes lie just outside their picture and are left out"),
                       (past, "boxes reach past their picture and are clipped in training")):
        if rows.any():
            numbers = listed([records.records[r].get("id") for r in np.flatnonzero(rows)])
            remarks.append(f"{int(rows.sum())} {what} (annotation {numbers})")
    return near


def read_segmentations(records: Records, owner: np.ndarray, boxes: np.ndarray, images: list[ImageRecord],
                       remarks: list[str]) -> list:
    """[M] the segmentations, None at a fault; a `Rectangle` for an object that has a box [M, 4] alone.

    Few such objects are left out of training and measurement as crowds are; many are a fault.
    """
    boxed = [record.get("segmentation") in (None, [], [[]]) for record in records.records]
    if few := 2 * sum(boxed) <= len(boxed):
        for row in np.flatnonzero(boxed):
            records.records[row]["segmentation"] = Rectangle.of_box(boxes[row].tolist())
        if any(boxed):
            numbers = listed([records.records[r].get("id") for r in np.flatnonzero(boxed)])
            remarks.append(f"{sum(boxed)} {records.kind}s have no outline, only a box: with --masks they are left out, "
                           f"as crowds are (annotation {numbers})")
    found = records.column("segmentation", lambda s: type(s) in (list, dict, Rectangle), "polygons or run lengths")
    undrawn = flat = 0
    for row, segmentation in enumerate(found):
        if segmentation is None or owner[row] < 0 or (few and boxed[row]):
            continue
        image = images[owner[row]]
        if None in (image.height, image.width):
            continue
        if type(segmentation) is list and segmentation and not any(type(p) in (list, dict) for p in segmentation):
            found[row] = segmentation = [segmentation]
            flat += 1
        if type(segmentation) is list and any(type(p) is list and str in map(type, p) for p in segmentation):
            found[row] = segmentation = [columns.numbers(p) or p for p in segmentation]
            records.converted["segmentation"] = records.converted.get("segmentation", 0) + 1
        if boxed[row]:
            records.fault(row, "segmentation is empty: the object has a box only",
                          "Draw its outline, remove it, or train without --masks.")
        elif what := segmentation_fault(segmentation, image.height, image.width):
            records.fault(row, what, "Correct or remove it.")
        elif type(segmentation) is list:
            undrawn += sum(not drawable(p, image.height, image.width) for p in segmentation)
    if flat:
        remarks.append(f"{flat} segmentations are lists of numbers: each is taken as one polygon")
    if undrawn:
        remarks.append(f"{undrawn} polygons have less than three corners or lie far outside: they are not drawn")
    return found
