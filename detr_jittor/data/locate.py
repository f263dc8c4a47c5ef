"""Where the pictures are that the records of an annotation file name. N pictures."""

import os
from collections import Counter
from pathlib import PurePosixPath

from detr_jittor.data import columns
from detr_jittor.data.columns import Records
from detr_jittor.data.decode import SAVE
from detr_jittor.data.faults import SHOWN, listed
from detr_jittor.data.listing import Listing

LEADS_OUT = ("file_name leads out of the image folder", "Give it relative to that folder.")
FIX = "Add the picture or remove its record."


def located(records: Records, names: list[str | None], folder: str, around: Listing, remarks: list[str],
            split: str = "") -> list[str]:
    """[N] the path of each picture. One that is not where its name says is looked for by other forms of it.

    Every folder is listed once and no file is looked at. A link within a folder may lead anywhere: its owner placed it
    there, the annotation file cannot.

    Args:
        around: where a picture may be that is not in the folder.
        split: see `Listing.find`.
    """
    listings: dict[str, frozenset[str]] = {}
    paths = [os.path.join(folder, name or "") for name in names]
    missing = [row for row, name in enumerate(names) if name is not None and not is_there(name, folder, listings)]
    if not missing:
        return paths
    taken = Counter(paths)
    found = {row: around.find(names[row], split) for row in missing}
    taken.subtract(paths[row] for row in missing)
    taken.update(str(around.root / name) for name in found.values() if name)
    for row, name in found.items():
        paths[row] = str(around.root / (name or ""))
        if name and taken[paths[row]] > 1:  # another record has that picture
            found[row] = name = None
        if name is None:
            tell_missing(records, row, names[row], folder, around)
    other = [row for row, name in found.items() if name]
    if other:
        shown = listed([f"{columns.shortened(names[r])} is {columns.shortened(found[r])}" for r in other[:1]])
        remarks.append(f"{len(other)} pictures are found under another form of their name ({shown})")
    return paths


def is_there(name: str, folder: str, listings: dict[str, frozenset[str]]) -> bool:
    """Whether a folder has a file of this name, which does not lead out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return False
    parent = os.path.join(folder, os.path.dirname(name))
    if parent not in listings:
        try:
            listings[parent] = frozenset(os.listdir(parent))
        except (OSError, ValueError):  # ValueError: a null character in the name
            listings[parent] = frozenset()
    return path.name in listings[parent]


def check_file(records: Records, row: int, name: str, folder: str, listings: dict[str, frozenset[str]]) -> None:
    """Note a file that is outside the folder or missing."""
    if not is_there(name, folder, listings):
        tell_missing(records, row, name, folder)


def tell_missing(records: Records, row: int, name: str, folder: str, around: Listing | None = None) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        records.fault(row, *LEADS_OUT, columns.shortened(name))
        return
    if around and (unread := around.find_unread(path.name)):
        records.fault(row, "its picture is of a format that is not read", SAVE,
                      columns.shortened(PurePosixPath(unread).name))
        return
    nearest = around.nearest(name) if around and len(records.faults) < SHOWN else ""
    proposed = f"; the nearest name there is {columns.shortened(nearest)}" if nearest else ""
    records.fault(row, f"no such file in {folder}", FIX, f"{columns.shortened(name)}{proposed}")
