"""What travels between the rooms, with shapes. NumPy only.

B batch, H and W the padded height and width, T objects and K segments in a picture, Q queries, C classes, L decoder
layers.
"""

from dataclasses import dataclass, field

import numpy as np

LARGEST_THING = 90  # COCO's categories up to this id are things, those above it stuff


@dataclass
class Target:
    """The annotations of one picture, after the transforms."""

    image_id: int
    labels: np.ndarray  # [T] int64, class numbers in 0 … C-1 (not category ids)
    boxes: np.ndarray  # [T, 4] float32, (cx, cy, w, h), a fraction of this picture's own size
    area: np.ndarray  # [T] float32, square pixels after the transforms
    iscrowd: np.ndarray  # [T] bool
    size: tuple[int, int]  # (height, width) after the transforms, without padding
    orig_size: tuple[int, int]  # (height, width) on disk
    masks: np.ndarray | None = None  # [T, H, W] bool, padded like the batch; only where masks are asked for


@dataclass
class Batch:
    """Pictures of several sizes, padded at the bottom and on the right to a common size."""

    images: np.ndarray  # [B, 3, H, W] float32, normalised with ImageNet's mean and deviation, zero in the padding
    mask: np.ndarray  # [B, H, W] bool, true in the padding
    targets: list[Target]
    bad_images: list[str] = field(default_factory=list)  # pictures that could not be read, with the reason

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Outputs:
    """What the model says, before post-processing."""

    logits: np.ndarray  # [B, Q, C + 1] float32; the last class is "no object". With `each` [B, Q, C]
    boxes: np.ndarray  # [B, Q, 4] float32, (cx, cy, w, h), a fraction of each picture's own size
    masks: np.ndarray | None = None  # [B, Q, H / 4, W / 4] float32 logits
    each: bool = False  # whether each class has a probability of its own, the sigmoid of its logit


@dataclass
class Assignment:
    """Which query stands for which object, for one picture and one decoder layer."""

    queries: np.ndarray  # [T] int64
    objects: np.ndarray  # [T] int64


@dataclass
class Detections:
    """What was found in one picture, in that picture's own pixels, one row a query, best first."""

    image_id: int
    scores: np.ndarray  # [N] float32
    labels: np.ndarray  # [N] int64, class numbers; Classes turns them into category ids
    boxes: np.ndarray  # [N, 4] float32, (x1, y1, x2, y2) in pixels
    masks: np.ndarray | None = None  # [N, H, W] bool, at the size on disk
    queries: np.ndarray | None = None  # [N] int64, the query that each comes from

    def rows(self, rows: np.ndarray) -> "Detections":
        """Only these: their places, or [N] bool."""
        all_of_it = (self.scores, self.labels, self.boxes, self.masks, self.queries)
        return Detections(self.image_id, *(None if part is None else part[rows] for part in all_of_it))


@dataclass
class Segmentation:
    """One segment a pixel of a picture, at the picture's size on disk. Segment k has the number k + 1."""

    numbers: np.ndarray  # [H, W] int64, 0 where there is no segment
    labels: np.ndarray  # [K] int64, class numbers; no label of stuff twice
    scores: np.ndarray  # [K] float32
    queries: np.ndarray | None = None  # [K] int64, the query that each comes from


@dataclass
class Attention:
    """Where the last layers look on the feature map, h × w places; the mean of the heads, each with the sum 1."""

    decoder: np.ndarray  # [B, Q, h, w] float32: where each query looks
    encoder: np.ndarray | None  # [B, h, w, h, w] float32: where each place looks; None without an encoder
    stride: int  # pixels of the padded picture from one place to the next


@dataclass(frozen=True)
class Look:
    """The objects in a picture, and where the model looks in it. N objects, h × w places of the feature map."""

    found: Detections
    objects: np.ndarray  # [N, h, w] float32: where the last decoder layer looks for each object
    places: np.ndarray | None  # [h, w, h, w] float32: where each place looks in the last encoder layer, if there is one
    extent: tuple[float, float]  # the places, downwards and across, that the picture covers: of the last ones a part


@dataclass(frozen=True)
class Classes:
    """The label ↔ category map of a dataset. It travels in the checkpoint.

    Labels equal the category ids where these are small (as the reference code has it, so that its weights fit);
    where they are not (the largest above 999), labels count the categories in the order of their ids.
    """

    category_ids: tuple[int, ...]  # the id of each category, ascending
    names: tuple[str, ...]  # the name of each category
    labels: tuple[int, ...]  # the label of each category
    num_classes: int  # C: the largest label + 1
    stuff: tuple[int, ...] | None = None  # the labels that are stuff, of panoptic data; None where nobody has said

    @staticmethod
    def of_categories(categories: list[dict]) -> "Classes":
        ordered = sorted(categories, key=lambda c: c["id"])
        ids = tuple(int(c["id"]) for c in ordered)
        names = tuple(str(c.get("name", c["id"])) for c in ordered)
        labels = ids if ids and ids[0] >= 0 and ids[-1] <= 999 else tuple(range(len(ids)))
        return Classes(ids, names, labels, num_classes=max(labels, default=-1) + 1)

    def label_of(self) -> dict[int, int]:
        """category id → label"""
        return dict(zip(self.category_ids, self.labels))

    def category_of(self) -> dict[int, int]:
        """label → category id; a label without a category is absent"""
        return dict(zip(self.labels, self.category_ids))

    def name_of(self) -> dict[int, str]:
        """label → class name"""
        return dict(zip(self.labels, self.names))

    def is_stuff(self, label: int) -> bool:
        """Whether a label is stuff, not a thing; where nobody has said it, by COCO's numbers: things up to 90."""
        return label > LARGEST_THING if self.stuff is None else label in self.stuff

    def labels_for(self, others: "Classes") -> dict[int, int]:
        """{label of `others`: the label here of the class of the same name}; a name that is unknown here is absent.

        Names are the same exactly, or else without regard to case and outer spaces, where only one here is.
        """
        exact = dict(zip(self.names, self.labels))
        found = {label: exact[name] for name, label in zip(others.names, others.labels) if name in exact}
        alike: dict[str, list[int]] = {}
        for name, label in zip(self.names, self.labels):
            alike.setdefault(folded(name), []).append(label)
        for name, label in zip(others.names, others.labels):
            candidates = alike.get(folded(name), [])
            if label not in found and len(candidates) == 1 and candidates[0] not in found.values():
                found[label] = candidates[0]
        return {label: found[label] for label in others.labels if label in found}

    def renumbered(self, label_of: dict[int, int], like: "Classes") -> "Classes":
        """The same categories with other labels.

        Args:
            label_of: {label: the new one}.
            like: whose labels these are: for the number of classes.
        """
        stuff = self.stuff and tuple(label_of[label] for label in self.stuff)
        return Classes(self.category_ids, self.names, tuple(label_of[label] for label in self.labels),
                       like.num_classes, stuff)

    def to_json(self) -> dict:
        stuff = {} if self.stuff is None else {"stuff": list(self.stuff)}
        return {"category_ids": list(self.category_ids), "names": list(self.names), "labels": list(self.labels),
                "num_classes": self.num_classes, **stuff}

    @staticmethod
    def from_json(data: dict) -> "Classes":
        stuff = data.get("stuff")
        return Classes(tuple(data["category_ids"]), tuple(data["names"]), tuple(data["labels"]), data["num_classes"],
                       stuff if stuff is None else tuple(stuff))


def folded(name: str) -> str:
    """What two spellings of a class name share."""
    return name.strip().casefold()


@dataclass
class State:
    """All that a twin must remember, in NumPy: what a checkpoint holds and what the other twin can load."""

    model: dict[str, np.ndarray]  # parameters and buffers by the reference code's key
    optimizer: dict[str, tuple[np.ndarray, np.ndarray]]  # trainable parameter → AdamW's (exp_avg, exp_avg_sq)
    steps: int = 0  # optimizer steps taken (AdamW's bias correction)
    average: dict[str, np.ndarray] = field(default_factory=dict)  # moving averages of weights, where they are kept

    @property
    def averaged(self) -> dict[str, np.ndarray]:
        """The weights to evaluate and predict with: moving averages where there are any."""
        return {**self.model, **self.average}
