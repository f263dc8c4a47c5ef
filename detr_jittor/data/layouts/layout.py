"""What a folder was found to be: its splits, and how each is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detr_jittor.data.content import Content
from detr_jittor.data.listing import Listing

WHOLE = ""  # the key of what belongs to no split


@dataclass
class Layout:
    """Attributes:
        root: the folder.
        kind: its format and by what it was recognised, in words: "YOLO (data.yaml)".
        parts: {"train", "val", "test", "trainval" or WHOLE: what reads it}.
        remarks: what the user should know of how it was understood, one sentence each.
    """

    root: Path
    kind: str
    parts: dict[str, Callable[[], Content]]
    remarks: list[str] = field(default_factory=list)


Finder = Callable[[Listing], Layout | None]  # what looks for one format; None: it is not there
