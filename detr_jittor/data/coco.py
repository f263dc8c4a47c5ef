"""Datasets in COCO's layout: the index of pictures and objects, validated once before anything else happens.

N pictures, M objects in all, T objects in one picture.
"""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from detr_jittor.config.small import Contents
from detr_jittor.data.annotation_file import empty_lists, garbage_kept, read_json
from detr_jittor.data.columns import ID, Records, is_id, whole
from detr_jittor.data.content import Content
from detr_jittor.data.faults import DatasetError, listed
from detr_jittor.data.listing import Listing
from detr_jittor.data.records import Annotations, ImageRecord, read_classes, read_images, read_objects
from detr_jittor.types import Classes


class CocoIndex:
    """A validated dataset.

    Attributes:
        name: of the annotation file, without its suffix, or of the split.
        file: the user's file or folder that it was read from.
        found: what the dataset was found to be, in words; empty where nobody has looked.
        classes: the label ↔ category map.
        images: [N] ImageRecord, in the order of the file.
        remarks: what the user should know although it is no fault, one sentence each.
    """

    def __init__(self, name: str, classes: Classes, images: list[ImageRecord], objects: Annotations,
                 starts: np.ndarray, remarks: list[str]):
        self.name, self.classes, self.images, self.remarks = name, classes, images, remarks
        self.file, self.found = Path(f"{name}.json"), ""
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
        return np.bincount(self.owner[rows], minlength=len(self))

    def contents(self) -> Contents:
        """What the set holds, for `config.small`."""
        shorts = np.array([min(image.height, image.width) for image in self.images])
        shapes = [max(image.height, image.width) / min(image.height, image.width) for image in self.images]
        sizes = np.sqrt(self._objects.boxes[:, 2:].prod(axis=1)) / shorts[self.owner]
        return Contents(len(self), int(self.learned.max(initial=0)), max(shapes, default=1.0),
                        int(np.median(shorts)) if len(shorts) else 1, float(np.median(sizes)) if len(sizes) else 1.0)

    @property
    def owner(self) -> np.ndarray:
        """[M] the place of each object's picture."""
        return np.repeat(np.arange(len(self)), np.diff(self._starts))

    @property
    def detection_truth(self) -> "CocoIndex":
        """What AP is measured against."""
        return self

    def relabelled(self, classes: Classes) -> "CocoIndex":
        """The same dataset with the labels that `classes` gives to its names, all of which it must know."""
        label_of = classes.labels_for(self.classes)
        if all(new == old for old, new in label_of.items()) and classes.num_classes == self.classes.num_classes:
            return self
        index = self.with_objects(with_labels(self._objects, label_of))
        index.classes = self.classes.renumbered(label_of, classes)
        return index

    def with_objects(self, objects: Annotations) -> "CocoIndex":
        """The same dataset with other objects [M] in place of its own, picture by picture as they are."""
        index = copy.copy(self)
        index._objects = objects
        return index

    @property
    def panoptic_truth(self) -> tuple[Path, Path] | None:
        """What panoptic quality is measured against, (annotation file, folder of segments), or None if it is not."""
        return None

    def first(self, count: int) -> "CocoIndex":
        """The dataset with its first `count` pictures only, or all of them where there are less."""
        index = copy.copy(self)
        index.images, index._starts = self.images[:count], self._starts[:count + 1]
        index._objects = self._objects.rows(slice(0, index._starts[-1]))
        return index

    def at(self, places: np.ndarray) -> "CocoIndex":
        """The dataset with the pictures at these places only."""
        index = copy.copy(self)
        rows = [np.arange(self._starts[place], self._starts[place + 1]) for place in places]
        index.images = [self.images[place] for place in places]
        index._starts = np.cumsum([0, *map(len, rows)])
        index._objects = self._objects.rows(np.concatenate(rows).astype(np.int64) if rows else np.arange(0))
        index.remarks = list(self.remarks)
        return index

    def ground_truth(self) -> dict:
        """The dataset as a COCO dict for evaluation.

        Annotation ids count from 1, because an id of 0 makes COCO's matching lose the object.
        """
        category_of, objects = self.classes.category_of(), self._objects
        annotations = [
            {"id": row + 1, "image_id": self.images[image].id, "category_id": category_of[label], "bbox": box,
             "area": area, "iscrowd": crowd}
            for row, (image, label, box, area, crowd) in enumerate(zip(
                self.owner.tolist(), objects.labels.tolist(), objects.boxes.tolist(), objects.area.tolist(),
                objects.iscrowd.astype(int).tolist()))
        ]
        if objects.segmentations is not None:
            for annotation, segmentation in zip(annotations, objects.segmentations):
                annotation["segmentation"] = list(segmentation) if isinstance(segmentation, list) else segmentation
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
        return CocoIndex.of(lambda: read_content(Path(annotation_file), Path(image_folder)), masks)

    @staticmethod
    def of(content: Callable[[], Content], masks: bool = False) -> "CocoIndex":
        """Read a split of any layout, and validate it. Args and errors: as `read`."""
        with garbage_kept():
            return checked(content(), masks)


def with_labels(objects: Annotations, label_of: dict[int, int]) -> Annotations:
    """The same objects with other labels [T]."""
    table = np.arange(max(label_of, default=-1) + 1)
    table[list(label_of)] = list(label_of.values())
    return replace(objects, labels=table[objects.labels])


def read_content(annotation_file: Path, image_folder: Path) -> Content:
    """A COCO file as it stands. Errors: DetrError if it cannot be read."""
    lists = read_json(annotation_file)
    return Content(annotation_file.stem, annotation_file, lists["images"], lists["annotations"], lists["categories"],
                   image_folder, Listing(image_folder))


def checked(content: Content, masks: bool) -> CocoIndex:
    """Errors: DatasetError with all faults."""
    faults, remarks = content.faults, content.remarks
    pictures, categories, objects = (
        Records(kind, records, faults, content.called.get(kind)) for kind, records in
        (("image", content.images), ("category", content.categories), ("annotation", content.annotations)))
    images, place_of = read_images(pictures, content.folder, content.around, remarks, content.split, content.paths)
    classes = read_classes(categories, remarks)
    numbers = objects.column("id", is_id, ID, reads=whole)
    if twice := [number for number, count in Counter(numbers).items() if count > 1 and number is not None]:
        remarks.append(f"annotation ids occur more than once ({listed(twice)}): they are counted anew")
    owner, columns_of_objects = read_objects(objects, images, place_of, categories, classes, masks, remarks)
    faults += empty_lists(content.images, content.categories)
    if faults:
        raise DatasetError(str(content.file), faults)
    for records in (pictures, categories, objects):
        remarks += records.conversions()
    order = np.argsort(owner, kind="stable")[np.count_nonzero(owner < 0):]
    starts = np.searchsorted(owner[order], np.arange(len(images) + 1))
    index = CocoIndex(content.name, classes, images, columns_of_objects.rows(order), starts, remarks)
    index.file = content.file
    return index
