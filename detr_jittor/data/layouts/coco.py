"""COCO's format under any names: one or several JSON files anywhere below a folder, pictures anywhere too."""

import mmap
import os
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

from detr_jittor.data.annotation_file import read_json
from detr_jittor.data.columns import is_category_id, meant, shortened, text
from detr_jittor.data.content import Content
from detr_jittor.data.layouts.layout import WHOLE, Layout
from detr_jittor.data.listing import Listing
from detr_jittor.data.split_names import split_of, split_of_folders
from detr_jittor.errors import DetrError

KEYS = (b'"images"', b'"annotations"', b'"categories"')
LOOKED_AT = 50  # pictures by which the folder of all is found
NOBODYS = 2**62  # an id that no record has
MOST_FILES = 1000  # JSON files that are looked into; labelme writes one a picture


def find(listing: Listing) -> Layout | None:
    files = annotation_files(listing)
    if not files:
        return None
    parts: dict[str, list[str]] = {}
    for file in files:
        parts.setdefault(split_of(file), []).append(file)
    remarks = []
    for split, names in parts.items():
        # instances_train.json beside person_keypoints_train.json: the same pictures
        if instances := [name for name in names if PurePosixPath(name).name.startswith("instances")]:
            parts[split] = instances
    if WHOLE in parts and len(parts) > 1 and "train" in parts:
        remarks.append(f"{', '.join(parts.pop(WHOLE)[:3])} names no split and is not used")
    used = [name for names in parts.values() for name in names]
    kind = f"COCO ({', '.join(used[:3])}{', …' if len(used) > 3 else ''})"
    return Layout(listing.root, kind, {split: partial(read, listing, tuple(names), split)
                                       for split, names in parts.items()}, remarks)


def annotation_files(listing: Listing) -> list[str]:
    """The JSON files that have COCO's three lists, or if there is none, those that lack the annotations or the
    categories, so that it is said."""
    keys = {name: keys_in(listing.root / name) for name in listing.with_suffix(".json")[:MOST_FILES]}
    complete = [name for name, found in keys.items() if len(found) == 3]
    return complete or [name for name, found in keys.items() if len(found) == 2 and KEYS[0] in found]


def keys_in(file: Path) -> set[bytes]:
    """Which of COCO's lists a file seems to have, without parsing it."""
    try:
        with open(file, "rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return {key for key in KEYS if mapped.find(key) >= 0}
    except (OSError, ValueError):  # ValueError: an empty file
        return set()


def read(listing: Listing, names: tuple[str, ...], split: str = "", folder: Path | None = None) -> Content:
    """Args: folder: of the pictures, where it is given; else it is looked for. Errors: DetrError for an unreadable
    file."""
    read_files = [(name, read_json(listing.root / name)) for name in names]
    if len(read_files) == 1:
        (name, lists), = read_files
        file = listing.root / name
        place = folder or listing.root / folder_of_pictures(listing, name, lists["images"], split)
        return Content(file.stem, file, lists["images"], lists["annotations"], lists["categories"], place,
                       Listing(folder) if folder else listing, "" if folder else split)
    return joined(listing, read_files, split)


def folder_of_pictures(listing: Listing, file: str, images: list, split: str) -> str:
    """The folder to which the names of a file's pictures are relative: that in which most of the first are; of such
    one of the same split, then the nearest to the file."""
    names = [i["file_name"] for i in images[:LOOKED_AT] if type(i) is dict and type(i.get("file_name")) is str]
    votes: Counter[str] = Counter()
    by_name = listing.by_name
    for name in names:
        for there in by_name.get(PurePosixPath(name).name, ()):
            its = split_of_folders(there)
            if (there == name or there.endswith(f"/{name}")) and (not split or its in ("", "trainval", split)):
                votes[there[:len(there) - len(name)].rstrip("/")] += 1
    beside = os.path.dirname(file)
    if not votes:
        if names and not any(listing.find(name, split) for name in names):
            raise DetrError(f"{listing.root / file}: none of its pictures is below {listing.root}, such as {names[0]}.",
                            "Put them there, or name their folder with --train_images and --val_images.")
        return beside

    def rank(folder: str) -> tuple:
        common = os.path.commonpath([folder, beside]) if folder and beside else ""
        return votes[folder], split_of_folders(f"{folder}/x") == split, len(common), -len(folder)

    return max(sorted(votes), key=rank)


def joined(listing: Listing, files: list[tuple[str, dict]], split: str) -> Content:
    """Several files as one: pictures and objects are counted anew, and what has the same name is the same picture or
    the same category."""
    all_of = Content(f"{split or 'all'} ({len(files)} files)", listing.root, [], [], [], listing.root, listing, split,
                     {"image": [], "annotation": [], "category": []})
    category_of: dict[str, int] = {}  # name → new id
    image_of: dict[str, int] = {}
    for file, lists in files:
        folder = folder_of_pictures(listing, file, lists["images"], split)
        images, categories = {}, {}  # the file's ids → new ones
        for record in lists["categories"]:
            name = record.get("name") if type(record) is dict else None
            add(all_of, "category", all_of.categories, record, file, name if type(name) is str else text(name),
                category_of, categories)
        for record in lists["images"]:
            name = record.get("file_name") if type(record) is dict else None
            if type(name) is str and folder:
                record = {**record, "file_name": (name := f"{folder}/{name}")}
            add(all_of, "image", all_of.images, record, file, name if type(name) is str else None, image_of, images)
        for record in lists["annotations"]:
            record = dict(record) if type(record) is dict else record
            all_of.called["annotation"].append(called(file, "annotation", record))
            for key, known in (("image_id", images), ("category_id", categories)) if type(record) is dict else ():
                if is_category_id(number := meant(record.get(key))):
                    record[key] = known.get(number, NOBODYS)
            all_of.annotations.append(record)
    for number, record in enumerate(all_of.annotations, 1):
        if type(record) is dict:
            record["id"] = number
    return all_of


def add(content: Content, kind: str, records: list, record, file: str, name: str | None, new_of: dict[str, int],
        ids: dict[int, int]) -> None:
    """Add a record of one of several files under a new id, unless one of its name is there; `ids` learns the id."""
    number = meant(record.get("id")) if type(record) is dict else None
    if not is_category_id(number) or number in ids:  # a fault that is told later
        records.append({**record, "id": ids[number]} if is_category_id(number) else record)
    elif name in new_of:
        ids[number] = new_of[name]
        return
    else:
        ids[number] = len(records)
        records.append({**record, "id": len(records)})
        if name is not None:
            new_of[name] = ids[number]
    content.called[kind].append(called(file, kind, record))


def called(file: str, kind: str, record) -> str:
    return f"{file}: {kind} {shortened(record.get('id') if type(record) is dict else record)}"
