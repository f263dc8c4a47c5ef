"""Datasets in COCO's layout: the index of pictures and objects, validated once before anything else happens.

N pictures, M objects in all, T objects in one picture.
"""

import gc
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from detr_jittor.config import DataConfig
from detr_jittor.data import columns
from detr_jittor.data.columns import Records
from detr_jittor.data.faults import DatasetError, Fault, listed
from detr_jittor.data.masks import drawable, segmentation_fault
from detr_jittor.errors import DetrError
from detr_jittor.types import Classes

ROUNDING = 1.0  # pixels by which a box may reach past its picture before that is worth a remark
FORMAT = "Pass an annotation file in COCO's format."


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


class CocoIndex:
    """A validated dataset.

    Attributes:
        name: of the annotation file, without its suffix.
        classes: the label ↔ category map.
        images: [N] ImageRecord, in the order of the file.
        remarks: what the user should know although it is no fault, one sentence each.
    """

    def __init__(self, name: str, classes: Classes, images: list[ImageRecord], objects: Annotations,
                 starts: np.ndarray, remarks: list[str]):
        self.name, self.classes, self.images, self.remarks = name, classes, images, remarks
        self._objects = objects  # [M] all objects, picture by picture
        self._starts = starts  # [N + 1] where the objects of each picture start

    def __len__(self) -> int:
        return len(self.images)

    def annotations(self, position: int) -> Annotations:
        """The objects of `images[position]`, crowds and zero areas included."""
        return self._objects.rows(slice(self._starts[position], self._starts[position + 1]))

    @property
    def objects(self) -> Annotations:
        """All objects, picture by picture."""
        return self._objects

    def ground_truth(self) -> dict:
        """The dataset as a COCO dict for evaluation.

        Annotation ids count from 1, because an id of 0 makes COCO's matching lose the object.
        """
        category_of, objects = self.classes.category_of(), self._objects
        owner = np.repeat(np.arange(len(self)), np.diff(self._starts))
        annotations = [
            {"id": row + 1, "image_id": self.images[image].id, "category_id": category_of[label], "bbox": box,
             "area": area, "iscrowd": crowd}
            for row, (image, label, box, area, crowd) in enumerate(zip(
                owner.tolist(), objects.labels.tolist(), objects.boxes.tolist(), objects.area.tolist(),
                objects.iscrowd.astype(int).tolist()))
        ]
        if objects.segmentations is not None:
            for annotation, segmentation in zip(annotations, objects.segmentations):
                annotation["segmentation"] = segmentation
        return {
            "info": {"description": self.name},
            "images": [{"id": i.id, "file_name": i.path, "height": i.height, "width": i.width} for i in self.images],
            "categories": [{"id": c, "name": n} for c, n in zip(self.classes.category_ids, self.classes.names)],
            "annotations": annotations,
        }

    @staticmethod
    def read(annotation_file: str | Path, image_folder: str | Path, masks: bool = False) -> "CocoIndex":
        """Read and validate a dataset.

        Args:
            masks: keep the segmentations, and demand that each object has one.

        Errors: DatasetError with all faults of the file; DetrError if it cannot be read at all.
        """
        content = read_json(annotation_file)
        faults: list[Fault] = []
        remarks: list[str] = []
        pictures = Records("image", content["images"], faults)
        categories = Records("category", content["categories"], faults)
        objects = Records("annotation", content["annotations"], faults)
        images, place_of = read_images(pictures, image_folder)
        classes = read_classes(categories, remarks)
        owner, columns_of_objects = read_objects(objects, images, place_of, classes, masks, remarks)
        faults += [Fault(kind, "the list is empty", FORMAT) for kind in ("images", "categories") if not content[kind]]
        if faults:
            raise DatasetError(str(annotation_file), faults)
        order = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[order], np.arange(len(images) + 1))
        return CocoIndex(Path(annotation_file).stem, classes, images, columns_of_objects.rows(order), starts, remarks)


def read_json(path: str | Path) -> dict:
    """The three lists of a COCO file. Errors: DetrError if it cannot be read or is no COCO file."""
    gc_was_on = gc.isenabled()
    gc.disable()  # millions of small objects and no cycle among them: collecting makes up half of the reading time
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DetrError(f"{path}: cannot be read ({error.strerror}).", FORMAT) from None
    except (ValueError, RecursionError) as error:
        raise DetrError(f"{path}: not valid JSON ({error}).", FORMAT) from None
    finally:
        if gc_was_on:
            gc.enable()
    if type(content) is not dict:
        raise DetrError(f"{path}: not a JSON object.", FORMAT)
    wrong = [key for key in ("images", "annotations", "categories") if type(content.get(key)) is not list]
    if wrong:
        raise DetrError(f"{path}: no list of {' and none of '.join(wrong)}.", FORMAT)
    return content


def read_images(records: Records, folder: str | Path) -> tuple[list[ImageRecord], dict[int, int]]:
    """The pictures and {image id: place in the list}."""
    ids = records.column("id", columns.is_id, "an integer from 0")
    records.unique("id", ids)
    names = records.column("file_name", columns.is_text, "the name of a file")
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
    names = records.column("name", columns.is_text, "a text")
    counts = Counter(names)
    if shared := sorted({name for name in names if name is not None and counts[name] > 1}):
        remarks.append(f"categories share a name ({listed(shared)}): their ids are added to the names")
    return Classes.of_categories([{"id": i, "name": f"{n} ({i})" if counts[n] > 1 else n}
                                  for i, n in zip(ids, names) if i is not None and n is not None])


def read_objects(records: Records, images: list[ImageRecord], place_of: dict[int, int], classes: Classes, masks: bool,
                 remarks: list[str]) -> tuple[np.ndarray, Annotations]:
    """The place [M] of each object's picture (-1 at a fault), and all objects in the order of the file."""
    ids = records.column("id", columns.is_id, "an integer from 0")
    records.unique("id", ids)
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
    if without := int(np.isnan(areas).sum()):
        remarks.append(f"{without} annotations have no area: that of their box is taken")
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
        image = images[owner[row]]
        if segmentation is None or owner[row] < 0 or None in (image.height, image.width):
            continue
        if what := segmentation_fault(segmentation, image.height, image.width):
            records.fault(row, what, "Correct or remove it.")
        elif type(segmentation) is list:
            undrawn += sum(not drawable(p, image.height, image.width) for p in segmentation)
    if undrawn:
        remarks.append(f"{undrawn} polygons have less than three corners or lie far outside: they are not drawn")
    return found


def open_split(data: DataConfig, split: str, masks: bool = False) -> CocoIndex:
    """The "train" or "val" split of the dataset that the options name, in COCO's layout.

    Errors: DatasetError with all faults; DetrError if a file or folder is missing.
    """
    if data.dataset_file != "coco":
        raise DetrError(f"--dataset_file {data.dataset_file} is not supported yet.", "Use --dataset_file coco.")
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
