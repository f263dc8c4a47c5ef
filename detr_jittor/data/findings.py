"""What a detector suffers from in a dataset that has no fault. N pictures, M objects."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.same_pictures import Grids, same_files, saved_anew
from detr_jittor.data.transforms import size_for

FEW_TRAIN, FEW_VAL = 20, 3  # objects of a class below which little is learned, or its AP says little
TINY = 8.0  # pixels at the size that is trained at: a quarter of a place of the feature map
HUGE = 0.95  # of the picture's width and height
SAME = 0.95  # overlap of two boxes of one class that are one object annotated twice
SHOWN = 5  # examples


@dataclass(frozen=True)
class Finding:
    """Attributes: kind: a word for programs; split: where; count: how many; what: a sentence; examples: some of them.
    """

    kind: str
    split: str
    count: int
    what: str
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.split}: {self.what}" + (f" ({', '.join(self.examples)}{more})" if self.examples else "")

    def to_json(self) -> dict:
        return asdict(self)


def findings(splits: dict[str, CocoIndex], min_size: int, max_size: int, queries: int,
             decode: bool = True, grids: Grids | None = None) -> list[Finding]:
    """Everything about all splits.

    Args:
        min_size, max_size: to which pictures are scaled.
        queries: of the model.
        decode: look too for pictures that were saved anew, for which each is decoded: some milliseconds a picture.
        grids: of those that have been decoded already.
    """
    found = [finding for split, index in splits.items() for finding in (
        *few_objects(split, index), *odd_sizes(split, index, min_size, max_size), *doubled(split, index),
        *crowded(split, index, queries))]
    return found + list(same_pictures(splits, decode, grids or {}))


def few_objects(split: str, index: CocoIndex) -> Iterator[Finding]:
    """Classes with no objects, and with few."""
    objects = index.objects.labels[~index.objects.iscrowd]
    counts = np.bincount(objects, minlength=index.classes.num_classes)
    few = FEW_TRAIN if split == "train" else FEW_VAL
    by_count = sorted(((int(counts[label]), name) for label, name in index.classes.name_of().items()))
    none = [name for count, name in by_count if count == 0]
    some = [f"{name} {count}" for count, name in by_count if 0 < count < few]
    if none:
        yield Finding("class without objects", split, len(none), f"{len(none)} classes have no object: "
                      f"they are not {'learned' if split == 'train' else 'measured'}", none[:SHOWN])
    if some:
        yield Finding("class with few objects", split, len(some), f"{len(some)} classes have less than {few} objects",
                      some[:SHOWN])


def odd_sizes(split: str, index: CocoIndex, min_size: int, max_size: int) -> Iterator[Finding]:
    """Boxes that are tiny once their picture is scaled, and those that are as large as their picture."""
    boxes, owner = index.objects.boxes, index.owner
    if not len(boxes):
        return
    sides = np.array([(image.width, image.height) for image in index.images], float)  # [N, 2]
    scaled = np.array([size_for(image.height, image.width, min_size, max_size)[::-1] for image in index.images], float)
    scale = (scaled / sides)[owner]  # [M, 2]
    sizes = np.sqrt((boxes[:, 2:] * scale).prod(axis=1))
    has_area = (boxes[:, 2:] > 0).all(axis=1)
    tiny = np.flatnonzero(has_area & (sizes < TINY))
    huge = np.flatnonzero((boxes[:, 2:] >= HUGE * sides[owner]).all(axis=1))
    if len(tiny):
        yield Finding("tiny boxes", split, len(tiny), f"{len(tiny)} of {len(boxes)} boxes are smaller than {TINY:.0f} "
                      f"pixels at --min_size {min_size} --max_size {max_size}, and hardly to be found",
                      places_of(index, tiny))
    if len(huge):
        yield Finding("huge boxes", split, len(huge), f"{len(huge)} of {len(boxes)} boxes are as large as their "
                      "picture", places_of(index, huge))


def places_of(index: CocoIndex, rows: np.ndarray) -> list[str]:
    """The pictures of some objects, by name."""
    owner = index.owner
    return list(dict.fromkeys(name_of(index, int(owner[row])) for row in rows))[:SHOWN]


def name_of(index: CocoIndex, place: int) -> str:
    return os.path.basename(index.images[place].path)


def doubled(split: str, index: CocoIndex) -> Iterator[Finding]:
    """Boxes that lie on another of the same class, and on one of another class."""
    same, other = [], []
    for place in range(len(index)):
        objects = index.annotations(place)
        kept = np.flatnonzero(~objects.iscrowd & (objects.boxes[:, 2:] > 0).all(axis=1))
        if len(kept) < 2:
            continue
        pairs = np.argwhere(np.triu(overlaps(objects.boxes[kept]) >= SAME, 1))
        labels = objects.labels[kept]
        same += [place for a, b in pairs if labels[a] == labels[b]]
        other += [place for a, b in pairs if labels[a] != labels[b]]
    for kind, places, what in (
            ("duplicate boxes", same, "boxes lie on another of the same class, as if annotated twice"),
            ("boxes of two classes", other, "boxes lie on one of another class")):
        if places:
            names = list(dict.fromkeys(name_of(index, place) for place in places))
            yield Finding(kind, split, len(places), f"{len(places)} {what}", names[:SHOWN])


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """[T, T] intersection over union of boxes [T, 4], (x, y, width, height)."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    shared = np.maximum(sides, 0).prod(axis=2)
    area = boxes[:, 2:].prod(axis=1)
    return shared / (area[:, None] + area[None] - shared)


def crowded(split: str, index: CocoIndex, queries: int) -> Iterator[Finding]:
    counts = index.learned
    if len(places := np.flatnonzero(counts > queries)):
        yield Finding("more objects than queries", split, len(places), f"{len(places)} pictures have more objects than "
                      f"{queries} queries can find, up to {counts.max()} (--num_queries)",
                      [name_of(index, int(place)) for place in places[:SHOWN]])


def same_pictures(splits: dict[str, CocoIndex], decode: bool, grids: Grids) -> Iterator[Finding]:
    """Pictures that are there again, in another split or in the same: as the same file, and saved anew."""
    files = same_files(splits)
    for twice, kind, how in (([[places] for places in files], "", "as the same file"),
                             (saved_anew(splits, files, grids) if decode else [], " saved anew",
                              "saved anew (format, quality or size)")):
        across = [group for group in twice if len({split for places in group for split, _ in places}) > 1]
        for name, groups, where, what in (
                ("in both splits", across, " and ".join(splits), f"are in more than one split, {how}, so that what is "
                 "measured has been learned"),
                ("twice", [group for group in twice if group not in across], "all splits",
                 f"are there more than once, {how}")):
            if groups:
                examples = [" ≈ ".join(" = ".join(f"{split}/{name_of(splits[split], place)}"
                                                  for split, place in places[:3]) for places in group[:3])
                            for group in groups[:SHOWN]]
                yield Finding(f"pictures{kind} {name}", where, len(groups), f"{len(groups)} pictures {what}", examples)
