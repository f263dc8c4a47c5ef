"""Pascal VOC's format: an XML file a picture, and lists of pictures in ImageSets/Main.

The XML files are in Annotations/ or beside the pictures. Where there are no lists, folders tell the splits.
"""

import re
from functools import partial
from pathlib import Path, PurePosixPath

from detr_jittor.data.content import Content
from detr_jittor.data.faults import Fault
from detr_jittor.data.layouts.layout import WHOLE, Layout
from detr_jittor.data.layouts.names import lines
from detr_jittor.data.layouts.voc_file import Annotation, read_annotation
from detr_jittor.data.listing import Listing
from detr_jittor.data.split_names import split_of_folders

# Lists of a split; others in the folder are of one class, as in "aeroplane_train.txt".
LISTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "trainval": "trainval",
         "default": WHOLE, "all": WHOLE}
LABELMAPS = ("labelmap.txt", "class_names.txt", "classes.txt", "labels.txt")
NO_CLASSES = ("background", "_background_", "__ignore__", "_ignore_")


def find(listing: Listing) -> Layout | None:
    files = [name for name in listing.with_suffix(".xml") if is_annotation(listing.root / name)]
    if not files:
        return None
    stems = {(root_of(name), stem_of(name)): name for name in files}
    parts: dict[str, list[tuple[str, str]]] = {}  # split → (XML file, how it is called where it is not there)
    lists = [name for name in listing.with_suffix(".txt")
             if PurePosixPath(name).parts[-3:-1] == ("ImageSets", "Main") and PurePosixPath(name).stem in LISTS]
    for name in lists:
        root = "/".join(PurePosixPath(name).parts[:-3])
        for number, line in enumerate(lines(listing.root / name), 1):
            stem = stem_of(line.replace("\\", "/"), line=True)
            parts.setdefault(LISTS[PurePosixPath(name).stem], []).append(
                (stems.get((root, stem), ""), f"{name} line {number} ({line})"))
    if {"train", "val"} <= parts.keys():
        parts.pop("trainval", None)
    for name in files if not parts else ():
        parts.setdefault(split_of_folders(name), []).append((name, ""))
    kind = f"Pascal VOC ({', '.join(sorted(lists)[:3])})" if lists else f"Pascal VOC ({len(files)} XML files)"
    reader = Reader(listing, files)
    return Layout(listing.root, kind, {split: partial(reader.read, rows, split) for split, rows in parts.items()})


def is_annotation(file: Path) -> bool:
    try:
        with open(file, "rb") as content:
            return bool(re.search(rb"<annotation[\s>]", content.read(2000).replace(b"\0", b"")))
    except OSError:
        return False


def root_of(name: str) -> str:
    """The folder of the dataset that an XML file is of: that which holds Annotations/."""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:parts.index("Annotations")] if "Annotations" in parts else parts[:-1])


def stem_of(name: str, line: bool = False) -> str:
    """The name of a picture as lists have it: below Annotations/, without its suffix.

    Args: line: it is a line of a list, which may have a suffix and a number for a class after it.
    """
    path = PurePosixPath(name)
    if line:
        words = name.split()
        name = " ".join(words[:-1]) if len(words) > 1 and words[-1] in ("1", "-1", "0") else name
        path = PurePosixPath(name)
        return str(path.with_suffix("")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".xml", ".bmp") else name
    parts = path.with_suffix("").parts
    return "/".join(parts[parts.index("Annotations") + 1:] if "Annotations" in parts else parts[-1:])


class Reader:
    """Reads the XML files of all splits once, because all have to agree on the classes and on where pixels count from.
    """

    def __init__(self, listing: Listing, files: list[str]):
        self.listing, self.files = listing, files
        self._read: dict[str, Annotation | Fault] | None = None

    @property
    def all(self) -> dict[str, Annotation | Fault]:
        if self._read is None:
            self._read = {name: read_annotation(self.listing.root / name, name) for name in self.files}
        return self._read

    def names(self) -> list[str]:
        """The classes: of a list beside the files, if it has all, else by alphabet, as VOC's own are."""
        used = {o["name"] for a in self.all.values() if isinstance(a, Annotation) for o in a.objects}
        for name in self.listing.files:
            if name.rpartition("/")[2] in LABELMAPS:
                rows = [row.split(":")[0].strip() for row in lines(self.listing.root / name) if row[0] != "#"]
                listed = [row for row in dict.fromkeys(rows) if row not in NO_CLASSES]
                if used <= set(listed):
                    return listed
        return sorted(used)

    def from_one(self) -> bool:
        """Whether pixels count from 1 and a box includes its last one, as in VOC itself and in labelImg; tools that
        write corners as they have them count from 0, which shows in a 0 or in decimals."""
        found = [a for a in self.all.values() if isinstance(a, Annotation)]
        lowest = min((v for a in found for item in a.objects for v in item["corners"]), default=1)
        return lowest >= 1 and not any(a.from_zero for a in found)

    def read(self, rows: list[tuple[str, str]], split: str) -> Content:
        names, shift = self.names(), int(self.from_one())
        content = Content(split or "all", self.listing.root, [], [], [
            {"id": number, "name": name} for number, name in enumerate(names)], self.listing.root, self.listing, split,
            {"image": [], "annotation": []})
        number_of = {name: number for number, name in enumerate(names)}
        for name, called in rows:
            annotation = self.all.get(name) or Fault(called, "there is no such XML file in Annotations/",
                                                     "Add it or remove the line.")
            if isinstance(annotation, Fault):
                content.faults.append(annotation)
            else:
                add(content, annotation, name, number_of, shift)
        if not shift and content.annotations:
            content.remarks.append("corners of boxes have a 0 or decimals, so they are taken to count from 0, not "
                                   "from 1 as VOC's do")
        if swapped := sum(o["swapped"] for a in self.all.values() if isinstance(a, Annotation) for o in a.objects):
            content.remarks.append(f"{swapped} boxes have their corners the other way round: they are turned")
        return content


def add(content: Content, annotation: Annotation, name: str, number_of: dict[str, int], shift: int) -> None:
    """Add a picture and its objects, with corners [x1, y1, x2, y2] of which the first are moved by `shift`."""
    image = len(content.images) + 1
    size = {} if annotation.size is None else dict(zip(("height", "width"), annotation.size))
    content.images.append({"id": image, "file_name": picture_of(content, annotation, name), **size})
    content.called["image"].append(name)
    content.faults += annotation.faults
    for item in annotation.objects:
        x1, y1, x2, y2 = item["corners"]
        box = [x1 - shift, y1 - shift, x2 - x1 + shift, y2 - y1 + shift]
        record = {"id": len(content.annotations) + 1, "image_id": image, "category_id": number_of[item["name"]],
                  "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "difficult": item["difficult"]}
        if item["polygon"]:
            record["segmentation"] = [[v - shift for v in item["polygon"]]]
        content.annotations.append(record)
        content.called["annotation"].append(f"{name} object {item['number']}")


def picture_of(content: Content, annotation: Annotation, name: str) -> str:
    """The picture of an XML file, relative to the root: what it names, near itself, or else what has its own name."""
    listing, split = content.around, content.split
    own = PurePosixPath(name).with_suffix("")
    parts = [part for part in own.parts if part != "Annotations"]
    for wanted in filter(None, (annotation.picture, str(own.name))):
        folders = ["/".join((*own.parts[:own.parts.index("Annotations")], middle, *own.parts[
            own.parts.index("Annotations") + 1:-1])) for middle in ("JPEGImages", "images")] if \
            "Annotations" in own.parts else []
        for folder in (*folders, "/".join(own.parts[:-1])):
            candidate = f"{folder}/{wanted}" if folder else wanted
            if candidate in listing.picture_set:
                return candidate
        tail = "/".join([*parts[:-1], wanted])
        if found := listing.find(tail, split) or listing.find(tail, split, stem=True):
            return found
    return annotation.picture or own.name
