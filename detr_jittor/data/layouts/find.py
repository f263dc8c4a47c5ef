"""Which layout a folder has: looked for once, from what is most specific to what could be anything."""

import re
from functools import partial
from pathlib import Path

from detr_jittor.config.options import DataConfig
from detr_jittor.data.annotation_file import read_json
from detr_jittor.data.content import Content
from detr_jittor.data.layouts import coco, labelme, voc, yolo
from detr_jittor.data.layouts.layout import WHOLE, Layout
from detr_jittor.data.listing import UNREAD_TOLD, Listing
from detr_jittor.data.split_names import SPLITS
from detr_jittor.errors import DetrError

KNOWN = ("Give a folder of COCO (JSON files, under any names), YOLO (data.yaml, or images/ and labels/), Pascal "
         "VOC (XML files) or labelme; --train_json and --train_images name files of COCO's format one by one.")

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".bz2", ".xz", ".zst")


def find_layout(data: DataConfig) -> Layout:
    """The layout of what the options name. Errors: DetrError if there is none, or if it is not known."""
    if data.train_json or data.val_json:
        return explicit(data)
    for option in ("train_images", "val_images"):
        if getattr(data, option):
            raise DetrError(f"--{option} goes with --{option[:-6]}json.", f"Pass --{option[:-6]}json too.")
    if not data.coco_path:
        raise DetrError("no dataset is given.", "Pass --data FOLDER, or --coco_path FOLDER, which is the same.")
    root = Path(data.coco_path)
    if root.is_file():
        return of_file(root)
    if not root.is_dir():
        raise DetrError(f"{root}: no such folder.", KNOWN)
    if layout := official(root):
        return layout
    listing = Listing(root)
    for finder in (yolo.find_described, coco.find, voc.find, labelme.find, yolo.find_bare):
        if layout := finder(listing):
            return layout
    raise unknown(listing)


def explicit(data: DataConfig) -> Layout:
    """The files of --train_json and --val_json."""
    parts = {}
    for split, file, folder in (("train", data.train_json, data.train_images), ("val", data.val_json, data.val_images)):
        if folder and not Path(folder).is_dir():
            raise DetrError(f"{folder}: no such folder.", f"Correct --{split}_images.")
        if file and not Path(file).is_file():
            raise DetrError(f"{file}: no such file.", f"Correct --{split}_json.")
        if file:
            path = Path(file)
            parts[split] = partial(read_file, path, Path(folder) if folder else None,
                                   Path(data.coco_path) if data.coco_path else folder_around(path), split)
    return Layout(Path(data.train_json or data.val_json).parent, "COCO (the files that are named)", parts)


def folder_around(file: Path) -> Path:
    """Where the pictures of an annotation file may be: beside it, or if it is in annotations/, beside that."""
    return file.parent.parent if re.fullmatch(r"annotations?|labels?|json", file.parent.name.lower()) else file.parent


def read_file(file: Path, folder: Path | None, around: Path, split: str) -> Content:
    """A COCO file whose pictures are in a folder, or somewhere around. Errors: DetrError if it cannot be read."""
    if folder:
        lists = read_json(file)
        return Content(file.stem, file, lists["images"], lists["annotations"], lists["categories"], folder,
                       Listing(folder))
    listing = Listing(around)
    try:
        name = str(file.relative_to(around))
    except ValueError:
        name = str(file.resolve())
    return coco.read(listing, (name,), split)


def of_file(file: Path) -> Layout:
    """A file in place of a folder: a data.yaml, or one JSON file."""
    listing = Listing(file.parent)
    if file.suffix.lower() in (".yaml", ".yml", ".data"):
        return yolo.of_description(listing, file, yolo.described(file))
    if file.suffix.lower() == ".json":
        return Layout(file.parent, f"COCO ({file.name})",
                      {WHOLE: partial(read_file, file, None, folder_around(file), "")})
    if file.suffix.lower() in ARCHIVES:
        raise DetrError(f"{file}: an archive.", "Unpack it and give the folder.")
    raise DetrError(f"{file}: no folder.", KNOWN)


def official(root: Path) -> Layout | None:
    """COCO's own layout, which is read without listing the folder."""
    files = {split: root / "annotations" / f"instances_{split}2017.json" for split in SPLITS}
    there = {split: file for split, file in files.items() if file.is_file()}
    if not there or not all((root / f"{split}2017").is_dir() for split in there):
        return None
    parts = {split: partial(read_file, file, root / f"{split}2017", root, split) for split, file in there.items()}
    if "train" not in parts:
        parts["train"] = partial(missing, files["train"])
    return Layout(root, "COCO (annotations/, train2017/, val2017/)", parts)


def missing(file: Path) -> Content:
    raise DetrError(f"{file}: no such file.", KNOWN)


def unknown(listing: Listing) -> DetrError:
    counts = [f"{len(found)} {what}" for found, what in (
        (listing.pictures, "pictures"), (listing.unread, UNREAD_TOLD), (listing.with_suffix(".json"), "JSON files"),
        (listing.with_suffix(".xml"), "XML files"), (listing.with_suffix(".txt"), "texts")) if found]
    return DetrError(f"{listing.root}: no dataset of a known layout ({', '.join(counts) or 'the folder is empty'}).",
                     KNOWN)
