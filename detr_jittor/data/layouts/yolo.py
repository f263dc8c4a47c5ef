"""YOLO's format: a text file a picture, whose lines are a class number and a box or a polygon in fractions of the
picture's size. Which pictures and classes there are says a data.yaml (Ultralytics, Roboflow, CVAT), a *.data file
(Darknet; CVAT's and Datumaro's "YOLO 1.1"), or the folders themselves (Label Studio, labelImg).
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from detr_jittor.data.content import Content
from detr_jittor.data.faults import Fault
from detr_jittor.data.layouts.layout import Layout
from detr_jittor.data.layouts.names import lines, names_of, read_darknet, read_yaml
from detr_jittor.data.layouts.yolo_labels import LabelReader
from detr_jittor.data.listing import UNREAD_TOLD, Listing
from detr_jittor.data.split_names import split_of_folders, split_of_name
from detr_jittor.errors import DetrError

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # keys of a data.yaml
LISTS_OF_NAMES = ("classes.txt", "obj.names", "class_names.txt", "labels.txt", "_darknet.labels", "classes.names")


def find(listing: Listing) -> Layout | None:
    return find_described(listing) or find_bare(listing)


def find_described(listing: Listing) -> Layout | None:
    """By the file that describes it; of several the one that is least deep."""
    found = sorted(listing.with_suffix(".yaml", ".yml", ".data"), key=lambda name: (name.count("/"), name))
    for name in found[:100]:
        try:
            description = described(listing.root / name)
        except DetrError:
            if PurePosixPath(name).stem in ("data", "dataset"):
                raise
            continue  # some other YAML
        if SPLITS.keys() & description.keys() and {"names", "nc"} & description.keys():
            return of_description(listing, listing.root / name, description)
    return None


def described(file: Path) -> dict:
    return read_darknet(file) if file.suffix == ".data" else read_yaml(file)


def of_description(listing: Listing, file: Path, description: dict) -> Layout:
    """Errors: DetrError for a training split that is not there."""
    remarks, parts = [], {}
    base = Path(os.path.join(file.parent, text_of(description.get("path"))))
    names = class_names(description, listing, base)
    for key, split in SPLITS.items():
        entries = description.get(key)
        pictures: list[Path] = []
        for entry in entries if type(entries) is list else [entries] if type(entries) is str and entries else []:
            place, remark = resolved(entry, file, base)
            remarks += remark
            if place is not None:
                pictures.append(place)
            elif split == "train":
                raise DetrError(f"{file}: {key}: {entry}: there is no such folder and no such list.",
                                "Correct it; it is relative to path, or to this file's folder.")
            else:
                remarks.append(f"{file.name}: {key}: {entry}: is not there")
        if pictures:
            parts[split] = partial(read, listing, file, split, pictures, names, description.get("kpt_shape"))
    said, given = text_of(description.get("nc")), description.get("names")
    if said.isdecimal() and type(given) in (list, dict) and len(given) != int(said):
        remarks.append(f"{file.name} says nc {said} but names {len(given)} classes, which are taken")
    return Layout(listing.root, f"YOLO ({file.name})", parts, remarks)


def text_of(value) -> str:
    return value if type(value) is str else ""


def class_names(description: dict, listing: Listing, base: Path) -> Callable[[], tuple[dict, list]]:
    """What reads {class number: name} and the faults of these, once it is needed."""
    names = description.get("names")
    if type(names) is str and names:  # a file of names
        def from_file():
            place = listing_name(listing, names)
            return names_of(lines(listing.root / place if place else base / names))
        return from_file
    return lambda: names_of(names, description.get("nc"))


def listing_name(listing: Listing, wanted: str) -> str | None:
    """The file below the root whose name ends as the wanted one does, with as many parts as possible."""
    parts = [p for p in wanted.replace("\\", "/").split("/") if p not in ("", ".", "..")]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        if found := [name for name in listing.files if name == tail or name.endswith(f"/{tail}")]:
            return min(found, key=len)
    return None


def resolved(entry: str, file: Path, base: Path) -> tuple[Path | None, list[str]]:
    """Where a split is that a description names, and a remark if that is not where it says: exporters write the paths
    of the machine that they run on, or "../train/images" for a folder beside the file."""
    for place in (base / entry, file.parent / entry):
        if place.exists():
            return place, []
    parts = [p for p in entry.replace("\\", "/").split("/") if p not in ("", ".", "..")]
    for start in range(len(parts)):
        for root in (base, file.parent):
            place = root.joinpath(*parts[start:])
            if place.exists():
                said = [] if entry.startswith("../") and start == 0 else [
                    f"{file.name} names {entry}, which is not there: {'/'.join(parts[start:])} is taken"]
                return place, said
    return None, []


def find_bare(listing: Listing) -> Layout | None:
    """By labels beside pictures, or in labels/ where the pictures are in images/."""
    labels = {os.path.splitext(name)[0] for name in listing.with_suffix(".txt")
              if name.rpartition("/")[2] not in LISTS_OF_NAMES}
    labelled = {os.path.dirname(p) for p in listing.pictures if labels & {os.path.splitext(n)[0] for n in (
        p, label_name(p))}}
    first = next((p for p in listing.pictures if os.path.dirname(p) in labelled), None)
    if first is None or not looks_like_labels(listing, labels):
        return None
    pictures = [p for p in listing.pictures if os.path.dirname(p) in labelled or "images" in p.split("/")]
    names = bare_names(listing, labels)
    lists = {split_of_name(PurePosixPath(n).stem): n for n in listing.with_suffix(".txt")
             if split_of_name(PurePosixPath(n).stem) and PurePosixPath(n).stem == split_word(n) and is_list(listing, n)}
    parts: dict[str, list[Path]] = {split: [listing.root / name] for split, name in lists.items()}
    if "train" not in parts:
        parts = {}
        for name in pictures:
            parts.setdefault(split_of_folders(name), []).append(listing.root / name)
    kind = "YOLO (labels beside the pictures)" if label_name(first) == os.path.splitext(first)[0] + ".txt" else \
        "YOLO (images/ and labels/)"
    return Layout(listing.root, kind, {split: partial(read, listing, listing.root, split, places, names)
                                       for split, places in parts.items()}, unread_told(len(listing.unread)))


def split_word(name: str) -> str:
    return PurePosixPath(name).stem


def is_list(listing: Listing, name: str) -> bool:
    """Whether a text names pictures, one a line."""
    first = next(iter(lines(listing.root / name)), "")
    return os.path.splitext(first)[1].lower() in listing.suffixes


def looks_like_labels(listing: Listing, labels: set[str]) -> bool:
    """Whether the first line of the first label that has one is a class number and a box at least."""
    for name in sorted(labels)[:1000]:
        if written := lines(listing.root / f"{name}.txt"):
            try:
                numbers = [float(word) for word in written[0].split()]
            except ValueError:
                continue
            return len(numbers) >= 5
    return False


def bare_names(listing: Listing, labels: set[str]) -> Callable[[], tuple[dict, list]]:
    for name in LISTS_OF_NAMES:
        if found := [n for n in listing.files if n.rpartition("/")[2] == name]:
            return lambda: names_of(lines(listing.root / min(found, key=len)))
    for name in listing.with_suffix(".yaml", ".yml"):
        with contextlib.suppress(DetrError):
            if "names" in (description := read_yaml(listing.root / name)):
                return lambda: names_of(description["names"])
    return lambda: ({n: str(n) for n in range(most_classes(listing, labels))}, [])


def most_classes(listing: Listing, labels: set[str]) -> int:
    """One more than the largest class number of all labels, of whatever split."""
    words = (line.split()[0] for name in labels for line in lines(listing.root / f"{name}.txt"))
    return 1 + max((int(float(word)) for word in words if word.replace(".", "", 1).isdecimal()), default=0)


def label_name(picture: str) -> str:
    """Where the label of a picture is: in labels/ in place of the last images/ (or JPEGImages/), or beside it."""
    stem = os.path.splitext(picture)[0]
    parts = stem.split("/")
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] in ("images", "JPEGImages"):
            return "/".join([*parts[:place], "labels", *parts[place + 1:]]) + ".txt"
    return stem + ".txt"


def read(listing: Listing, file: Path, split: str, places: list[Path], names: Callable[[], tuple[dict, list]],
         keypoints=None) -> Content:
    """Args: places: folders of pictures, lists of pictures, and pictures."""
    known, faults = names()
    of = f" of {file.name}" if file.is_file() else ""
    content = Content(f"{split or 'all'}{of}", file, [], [], [{"id": n, "name": name} for n, name in known.items()],
                      listing.root, listing, split, {"image": [], "annotation": []}, [], list(faults))
    reader = LabelReader(content, keypoints)
    unread = 0
    for place in places:
        inside = Listing(place) if place.is_dir() else None
        for picture, called in pictures_of(place, inside, listing, split):
            reader.add(picture, called, label_name)
        unread += len(inside.unread) if inside else 0
    reader.end()
    if unread and not content.images:
        what = "all of its pictures are of formats that are not read, such as HEIC"
        content.faults.append(Fault(str(places[0]), what, "Save them as .jpg or .png."))
    content.remarks += unread_told(unread)
    return content


def unread_told(count: int) -> list[str]:
    return [f"{count} {UNREAD_TOLD} are left out"] if count else []


def pictures_of(place: Path, inside: Listing | None, listing: Listing, split: str):
    """(path of a picture, how it is called) of a folder, a list or a single picture; path None: it is not there.

    Args:
        inside: what is in the place, if it is a folder.
        listing: the whole dataset.
    """
    if inside:
        for name in inside.pictures:
            yield os.path.join(place, name), ""
    elif place.suffix.lower() in listing.suffixes:
        yield str(place), ""
    else:
        for number, line in enumerate(lines(place), 1):
            called = f"{place.name} line {number}: {line}"
            yield in_list(line, place, listing, split), called


def in_list(line: str, place: Path, listing: Listing, split: str) -> str | None:
    """A picture that a list names: relative to the list, to the root, absolute, or by the end of its path."""
    for candidate in (place.parent / line, listing.root / line):
        if os.path.isfile(candidate):
            return os.path.normpath(candidate)
    found = listing.find(line, split)
    return str(listing.root / found) if found else None
