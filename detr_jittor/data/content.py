"""What a layout says of a split, as COCO's three lists, before anything in it is looked at."""

from dataclasses import dataclass, field
from pathlib import Path

from detr_jittor.data.faults import Fault
from detr_jittor.data.listing import Listing


@dataclass
class Content:
    """One split. Whatever layout it comes from, `CocoIndex.of` checks it.

    Attributes:
        name: how the split is called in remarks.
        file: the user's own file or folder, with which messages begin.
        images, annotations, categories: records as a COCO file has them.
        folder: that the names of the pictures are relative to.
        around: where pictures may be that are not there.
        split: "train", "val" or "test", where pictures of other splits may be below `around`.
        called: {kind of record: how each is called in messages}, where that is not by its id.
        paths: of the pictures, where the layout has found them itself.
    """

    name: str
    file: Path
    images: list
    annotations: list
    categories: list
    folder: Path
    around: Listing
    split: str = ""
    called: dict[str, list[str]] = field(default_factory=dict)
    paths: list[str] | None = None
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
