"""The training and the validation split of the dataset that the options name, in whichever layout it has."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from detr_jittor.config.options import DataConfig
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.divide import divided
from detr_jittor.data.faults import listed
from detr_jittor.data.layouts.find import find_layout
from detr_jittor.data.layouts.layout import WHOLE, Layout
from detr_jittor.data.masks import Rectangle
from detr_jittor.data.panoptic import open_panoptic
from detr_jittor.errors import DetrError

# What serves for a split, the best first; of what serves for training the validation split is cut where there is none.
SERVES = {"train": ("train", "trainval", WHOLE), "val": ("val", "test")}


def each_split(data: DataConfig, masks: bool = False) -> Iterator[tuple[str, CocoIndex | DetrError]]:
    """(split, index or the error that it ends in) of training and validation, whatever becomes of the other."""
    try:
        layout = find_layout(data)
    except DetrError as error:
        yield "train", error
        return
    there: dict[str, CocoIndex | DetrError] = {}
    for split in ("train", "val"):
        if split not in there:
            try:
                there |= opened(layout, split, data.crowds, masks)
            except DetrError as error:
                there[split] = error
                if is_cut(layout):  # both splits come from the same files, and are told once
                    break
    yield from there.items()


def is_cut(layout: Layout) -> bool:
    """Whether the validation split is cut out of the training split."""
    return not any(name in layout.parts for name in SERVES["val"])


def open_split(data: DataConfig, split: str, masks: bool = False) -> CocoIndex:
    """The "train" or "val" split of the dataset that the options name.

    Errors: DatasetError with all faults; DetrError if a file or folder is missing.
    """
    if data.dataset_file == "coco_panoptic":
        return open_panoptic(data, split, masks)
    return opened(find_layout(data), split, data.crowds, masks)[split]


def opened(layout: Layout, split: str, crowds: str, masks: bool) -> dict[str, CocoIndex]:
    """{split: index} of one split, and of both where the validation split is cut out of the training split."""
    source = next((name for name in SERVES[split] if name in layout.parts), None)
    if source is None and split == "train":
        raise DetrError(f"{layout.root}: {layout.kind}: has no training split, only {listed(list(layout.parts))}.",
                        "Add one, or name it with --train_json.")
    if cut := is_cut(layout):
        source = next(name for name in SERVES["train"] if name in layout.parts)
    index = with_crowds(CocoIndex.of(layout.parts[source], masks), crowds)
    index.found = f"{layout.root}: {layout.kind}"
    if split == "train" or cut:
        index.remarks = [*layout.remarks, *index.remarks]
    if source == "test":
        index.remarks.append("there is no validation split: the test split serves as one")
    return dict(zip(("train", "val"), divided(index))) if cut else {split: index}


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
    if data.dataset_file == "coco_panoptic":
        splits = {split: open_panoptic(data, split, masks) for split in ("train", "val")}
    else:
        layout = find_layout(data)
        splits = opened(layout, "train", data.crowds, masks)
        if "val" not in splits:
            splits |= opened(layout, "val", data.crowds, masks)
    return splits["train"], alike(splits["train"], splits["val"])


def open_all(data: DataConfig, masks: bool = False) -> dict[str, CocoIndex]:
    """{"train", "val", "test": index} of what there is, with the labels of the first. Errors: as `open_splits`."""
    layout = find_layout(data)
    splits: dict[str, CocoIndex] = {}
    for split in ("train", "val"):
        if split not in splits and any(name in layout.parts for name in SERVES[split]):
            splits |= opened(layout, split, data.crowds, masks)
    if "test" in layout.parts and "val" in layout.parts:
        splits["test"] = CocoIndex.of(layout.parts["test"], masks)
    first = next(iter(splits.values()))
    return {split: index if index is first else alike(first, index) for split, index in splits.items()}


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
