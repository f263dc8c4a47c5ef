"""Datasets in COCO's panoptic layout: every pixel of a picture belongs to a segment, of a thing or of stuff.

As in the reference code, every segment is an object to find, crowds included, and labels are category ids where these
are below 250.
N pictures, M segments in all.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from detr_jittor.config.options import DataConfig
from detr_jittor.data import columns
from detr_jittor.data.annotation_file import empty_lists, garbage_kept, read_json
from detr_jittor.data.coco import CocoIndex, with_labels
from detr_jittor.data.columns import Records
from detr_jittor.data.faults import DatasetError
from detr_jittor.data.listing import Listing
from detr_jittor.data.locate import check_file
from detr_jittor.data.masks import run_lengths, segmentation_masks
from detr_jittor.data.records import Annotations, read_classes, read_images, read_objects
from detr_jittor.data.segments import LARGEST_ID, Segment
from detr_jittor.errors import DetrError
from detr_jittor.types import Classes

NUM_CLASSES = 250  # C, as the reference code has it, so that its weights fit; more where there are more categories


@dataclass(frozen=True)
class Layout:
    """Where a split lies."""

    annotations: Path  # panoptic_val2017.json
    segments: Path  # panoptic_val2017/
    images: Path  # val2017/
    instances: Path  # instances_val2017.json, which need not be there


class PanopticIndex(CocoIndex):
    """A validated panoptic dataset."""

    def __init__(self, layout: Layout, segments: Annotations, *index):
        """
        Args:
            segments: the objects [M] with boxes and crowds as the file has them.
            index: what `CocoIndex` takes.
        """
        super().__init__(*index)
        self.layout, self._segments = layout, segments

    @cached_property
    def detection_truth(self) -> CocoIndex:
        """The annotated instances of the same pictures, as the reference code has it, or the segments of things.

        Errors: DatasetError if there are instances and they are faulty.
        """
        classes, file = self.classes_of_things(), self.layout.instances
        if file.is_file():
            instances = CocoIndex.read(file, self.layout.images, self.objects.segmentations is not None)
            same_pictures = {i.id for i in instances.images} == {i.id for i in self.images}
            if same_pictures and len(classes.labels_for(instances.classes)) == len(instances.classes.names) == len(
                    classes.names):
                return instances.relabelled(classes)
        print(f"{file}: has not the pictures and things of {self.name}, so AP is measured against the segments there.")
        return self.things(classes)

    @property
    def panoptic_truth(self) -> tuple[Path, Path]:
        """What panoptic quality is measured against: (annotation file, folder of segments)."""
        return self.layout.annotations, self.layout.segments

    def classes_of_things(self) -> Classes:
        c = self.classes
        things = [row for row in zip(c.category_ids, c.names, c.labels) if not c.is_stuff(row[2])]
        return Classes(*(tuple(column) for column in zip(*things)), c.num_classes) if things else Classes((), (), (), 0)

    def relabelled(self, classes: Classes) -> "PanopticIndex":
        index = super().relabelled(classes)
        if index is not self:
            index._segments = with_labels(self._segments, classes.labels_for(self.classes))
            index.__dict__.pop("detection_truth", None)
        return index

    def things(self, classes: Classes) -> CocoIndex:
        """The segments that are things, as instances; none of a picture whose segments cannot be read, since the
        loader leaves it out and names it."""
        rows = np.flatnonzero(np.isin(self._segments.labels, classes.labels))
        objects, starts = self._segments.rows(rows), np.searchsorted(rows, self._starts)
        if objects.segmentations is not None:
            lengths = []
            for image, start, end in zip(self.images, starts, starts[1:]):
                try:
                    masks = segmentation_masks(objects.segmentations[start:end], image.height, image.width)
                except DetrError:
                    masks = [None] * (end - start)
                lengths += [mask if mask is None else run_lengths(mask) for mask in masks]
            readable = np.array([runs is not None for runs in lengths], bool)
            objects = replace(objects, segmentations=lengths).rows(np.flatnonzero(readable))
            starts = np.append(0, np.cumsum(readable))[starts]
        return CocoIndex(self.name, classes, self.images, objects, starts, [])


def open_panoptic(data: DataConfig, split: str, masks: bool = False) -> PanopticIndex:
    """The "train" or "val" split, pictures under --coco_path and segments under --coco_panoptic_path.

    Errors: DatasetError with all faults; DetrError if a file or folder is missing.
    """
    for option in ("coco_path", "coco_panoptic_path"):
        if not getattr(data, option):
            raise DetrError(f"--dataset_file coco_panoptic needs a --{option}.", f"Pass --{option} FOLDER.")
    images, panoptic = Path(data.coco_path), Path(data.coco_panoptic_path)
    layout = Layout(panoptic / "annotations" / f"panoptic_{split}2017.json", panoptic / f"panoptic_{split}2017",
                    images / f"{split}2017", images / "annotations" / f"instances_{split}2017.json")
    for place, there in ((layout.images, layout.images.is_dir()), (layout.annotations, layout.annotations.is_file()),
                         (layout.segments, layout.segments.is_dir())):
        if not there:
            raise DetrError(f"{place}: not there.",
                            f"--coco_path takes a folder with {split}2017/, --coco_panoptic_path one with "
                            f"annotations/{layout.annotations.name} and {layout.segments.name}/.")
    with garbage_kept():
        index = read_panoptic(layout, masks)
        if split == "val":
            _ = index.detection_truth  # if it is faulty, now is the time to hear of it
    return index


def read_panoptic(layout: Layout, masks: bool) -> PanopticIndex:
    """Read and validate. Errors: DatasetError with all faults of the annotation file."""
    content, faults, remarks = read_json(layout.annotations), [], []
    pictures = Records("image", content["images"], faults)
    annotations = OfImage("annotation", content["annotations"], faults)
    categories = Records("category", content["categories"], faults)
    images, place_of = read_images(pictures, layout.images, Listing(layout.images), remarks)
    classes = read_panoptic_classes(categories, remarks)
    files = read_files(annotations, pictures, place_of, layout.segments)
    records = OfImage("segment", all_segments(annotations), faults)
    ids = records.column("id", is_segment_id, f"a whole number from 1 to {LARGEST_ID}", reads=columns.whole)
    owners = [record.get("image_id") for record in records.records]
    records.unique("id", [None if i is None else (str(owner), i) for owner, i in zip(owners, ids)])
    owner, segments = read_objects(records, images, place_of, categories, classes, False, remarks)
    faults += empty_lists(content["images"], content["categories"])
    if faults:
        raise DatasetError(str(layout.annotations), faults)
    for each in (pictures, categories, annotations, records):
        remarks += each.conversions()
    if masks:
        segments = replace(segments, segmentations=[Segment(files[o], i) for o, i in zip(owners, ids)])
    order = np.argsort(owner, kind="stable")[np.count_nonzero(owner < 0):]
    segments, starts = segments.rows(order), np.searchsorted(owner[order], np.arange(len(images) + 1))
    # The reference code trains on crowds, too, and measures boxes from the first to the last pixel of a segment, which
    # is one less than COCO's width and height.
    objects = replace(segments, boxes=np.maximum(segments.boxes - [0, 0, 1, 1], 0),
                      iscrowd=np.zeros(len(segments), bool))
    return PanopticIndex(layout, segments, layout.annotations.stem, classes, images, objects, starts, remarks)


def read_truth(file: Path) -> dict:
    """A panoptic annotation file as it stands, but for numbers that it gives as texts or with a decimal point."""
    content = read_json(file)
    segments = [segment for annotation in content["annotations"] for segment in annotation["segments_info"]]
    for record in (*content["images"], *content["annotations"], *content["categories"], *segments):
        for key in ("id", "image_id", "category_id", "height", "width", "iscrowd", "isthing"):
            if (meant := columns.whole(record.get(key))) is not None:
                record[key] = meant
    return content


class OfImage(Records):
    """Records that are called by their picture, in which alone their ids are unique."""

    def name(self, position: int) -> str:
        record = self.records[position]
        number = f" {record['id']}" if columns.is_id(record.get("id")) else ""
        return f"{self.kind}{number} of image {columns.shortened(record.get('image_id'))}"


def is_segment_id(value) -> bool:
    return columns.is_id(value) and 1 <= value <= LARGEST_ID


def all_segments(annotations: Records) -> list:
    """The segments of all pictures, each with the id of its picture."""
    return [{**segment, "image_id": record.get("image_id")} if type(segment) is dict else segment
            for record in annotations.records if type(record.get("segments_info")) is list
            for segment in record["segments_info"]]


def read_panoptic_classes(records: Records, remarks: list[str]) -> Classes:
    """The categories, of which the file says which are things. Labels are the ids where these are small, as in the
    reference code, so that its weights fit; else they count the categories."""
    flags = records.column("isthing", columns.is_flag, "0 or 1", reads=columns.whole)
    classes = read_classes(records, remarks)
    thing_of = {record["id"]: flag for record, flag in zip(records.records, flags)
                if columns.is_category_id(record.get("id"))}
    labels = classes.labels if max(classes.category_ids, default=0) < NUM_CLASSES else tuple(range(len(classes.labels)))
    stuff = tuple(label for number, label in zip(classes.category_ids, labels) if not thing_of.get(number))
    return Classes(classes.category_ids, classes.names, labels, max(NUM_CLASSES, len(labels)), stuff)


def read_files(records: Records, pictures: Records, place_of: dict[int, int], folder: Path) -> dict[int, str]:
    """{image id: file of its segments}. Every picture must have one annotation."""
    owners = records.column("image_id", columns.is_id, columns.ID, reads=columns.whole)
    records.unique("image_id", owners)
    records.known("image_id", owners, place_of, "an image")
    records.column("segments_info", lambda value: type(value) is list, "a list of segments")
    names = records.column("file_name", columns.is_text, "the name of a file, in Unicode")
    records.unique("file_name", names)
    listings: dict[str, frozenset[str]] = {}
    for position, name in enumerate(names):
        if name is not None:
            check_file(records, position, name, str(folder), listings)
    for without in place_of.keys() - set(owners):
        pictures.fault(place_of[without], "has no annotation", "Add its segments or remove it.")
    return {owner: str(folder / name) for owner, name in zip(owners, names) if name is not None}
