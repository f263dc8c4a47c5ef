"""Datasets in COCO's layout: the index of pictures and objects, validated once before anything else happens.

N pictures, M objects in all, T objects in one picture.
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from detr_jittor.config.options import DataConfig
from detr_jittor.data.columns import Records, is_id
from detr_jittor.data.faults import DatasetError, Fault, listed
from detr_jittor.data.records import Annotations, ImageRecord, read_classes, read_images, read_objects
from detr_jittor.errors import DetrError
from detr_jittor.types import Classes

FORMAT = "Pass an annotation file in COCO's format."


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

    @property
    def learned(self) -> np.ndarray:
        """[N] objects of each picture that are trained on: no crowds, and none whose box has no area."""
        rows = ~self._objects.iscrowd & (self._objects.boxes[:, 2:] > 0).all(axis=1)
        return np.bincount(self._owner[rows], minlength=len(self))

    @property
    def _owner(self) -> np.ndarray:
        """[M] the place of each object's picture."""
        return np.repeat(np.arange(len(self)), np.diff(self._starts))

    @property
    def detection_truth(self) -> "CocoIndex":
        """What AP is measured against."""
        return self

    def first(self, count: int) -> "CocoIndex":
        """The dataset with its first `count` pictures only, or all of them where there are less."""
        starts = self._starts[:count + 1]
        return CocoIndex(self.name, self.classes, self.images[:count], self._objects.rows(slice(0, starts[-1])), starts,
                         self.remarks)

    def ground_truth(self) -> dict:
        """The dataset as a COCO dict for evaluation.

        Annotation ids count from 1, because an id of 0 makes COCO's matching lose the object.
        """
        category_of, objects = self.classes.category_of(), self._objects
        annotations = [
            {"id": row + 1, "image_id": self.images[image].id, "category_id": category_of[label], "bbox": box,
             "area": area, "iscrowd": crowd}
            for row, (image, label, box, area, crowd) in enumerate(zip(
                self._owner.tolist(), objects.labels.tolist(), objects.boxes.tolist(), objects.area.tolist(),
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
        with garbage_kept():
            return read_index(Path(annotation_file), Path(image_folder), masks)


@contextmanager
def garbage_kept() -> Iterator[None]:
    """No garbage collection: among millions of small objects it costs a third of the time and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_index(annotation_file: Path, image_folder: Path, masks: bool) -> CocoIndex:
    content = read_json(annotation_file)
    faults: list[Fault] = []
    remarks: list[str] = []
    pictures = Records("image", content["images"], faults)
    categories = Records("category", content["categories"], faults)
    objects = Records("annotation", content["annotations"], faults)
    images, place_of = read_images(pictures, image_folder)
    classes = read_classes(categories, remarks)
    objects.unique("id", objects.column("id", is_id, "an integer from 0"))
    owner, columns_of_objects = read_objects(objects, images, place_of, classes, masks, remarks)
    faults += empty_lists(content)
    if faults:
        raise DatasetError(str(annotation_file), faults)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(images) + 1))
    return CocoIndex(annotation_file.stem, classes, images, columns_of_objects.rows(order), starts, remarks)


def read_json(path: Path) -> dict:
    """The three lists of a COCO file. Errors: DetrError if it cannot be read or is no COCO file."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DetrError(f"{path}: cannot be read ({error.strerror}).", FORMAT) from None
    except (ValueError, RecursionError) as error:
        raise DetrError(f"{path}: not valid JSON ({error}).", FORMAT) from None
    if type(content) is not dict:
        raise DetrError(f"{path}: not a JSON object.", FORMAT)
    wrong = [key for key in ("images", "annotations", "categories") if type(content.get(key)) is not list]
    if wrong:
        raise DetrError(f"{path}: no list of {' and none of '.join(wrong)}.", FORMAT)
    return content


def empty_lists(content: dict) -> list[Fault]:
    return [Fault(kind, "the list is empty", FORMAT) for kind in ("images", "categories") if not content[kind]]


def open_split(data: DataConfig, split: str, masks: bool = False) -> CocoIndex:
    """The "train" or "val" split of the dataset that the options name, in COCO's layout or its panoptic one.

    Errors: DatasetError with all faults; DetrError if a file or folder is missing.
    """
    if data.dataset_file == "coco_panoptic":
        from detr_jittor.data.panoptic import open_panoptic  # here, because it builds on this file

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
