"""The files below a folder, and pictures that are there under another form of their name."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from detr_jittor.data.decode import UNREAD, readable_suffixes
from detr_jittor.data.split_names import split_of_folders

LEFT_OUT = ("__MACOSX", "$RECYCLE.BIN", "System Volume Information")  # what systems leave in folders and archives
UNREAD_TOLD = "pictures of formats that are not read, such as HEIC (save them as .jpg or .png)"
MANY = 20_000  # pictures, from which on no nearest name is looked for


class Listing:
    """All files below a folder, listed once. Names are relative to it and have slashes.

    What begins with a dot is left out: it is hidden, or a macOS twin of a file ("._1.jpg").
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    @cached_property
    def files(self) -> list[str]:
        return sorted(files_below(str(self.root)))

    def with_suffix(self, *suffixes: str) -> list[str]:
        return [name for name in self.files if os.path.splitext(name)[1].lower() in suffixes]

    @cached_property
    def suffixes(self) -> set[str]:
        """Of pictures, in small letters."""
        return readable_suffixes()

    @cached_property
    def pictures(self) -> list[str]:
        return self.with_suffix(*self.suffixes)

    @cached_property
    def unread(self) -> list[str]:
        """Pictures of formats that are not read, such as HEIC."""
        return self.with_suffix(*UNREAD - self.suffixes)

    @cached_property
    def picture_set(self) -> frozenset[str]:
        return frozenset(self.pictures)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """{the last part of a picture's name, folded: the pictures}"""
        found: dict[str, list[str]] = {}
        for name in self.pictures:
            found.setdefault(folded(name.rpartition("/")[2]), []).append(name)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.pictures:
            found.setdefault(folded(PurePosixPath(name).stem), []).append(name)
        return found

    def find(self, wanted: str, split: str = "", stem: bool = False) -> str | None:
        """The one picture that `wanted` can mean: one whose last parts are the same, regardless of case, of Unicode
        form, of percent escapes, of the slashes' direction and of folders before them. None if there is no such
        picture, or if several fit as well.

        Args:
            split: that the picture is of. One in a folder of another split is another picture.
            stem: the suffix may be another. It may always be missing.
        """
        best: list[str] = []
        for parts in forms(wanted):
            name, suffix = os.path.splitext(parts[-1])
            candidates = self.by_name.get(parts[-1], [])
            if suffix not in self.suffixes:
                candidates = self._by_stem.get(parts[-1], [])
            elif stem:
                candidates = self._by_stem.get(name, [])
            fitting = {c: (shared([*folded(c).split("/")[:-1], parts[-1]], parts), split_of_folders(c) == split)
                       for c in candidates
                       if not split or split_of_folders(c) in ("", "trainval", split)}
            if fitting:
                best = [c for c, rank in fitting.items() if rank == max(fitting.values())]
                break
        if len(best) > 1:  # two pictures whose names differ in their case alone
            best = [c for c in best if c.endswith(wanted)]
        return best[0] if len(best) == 1 else None

    def find_unread(self, wanted: str) -> str | None:
        """A picture of this name, whatever its suffix, of a format that is not read."""
        stem = folded(PurePosixPath(wanted).stem)
        return next((name for name in self.unread if folded(PurePosixPath(name).stem) == stem), None)

    def nearest(self, wanted: str) -> str:
        """The picture whose name looks most like this one; empty if none does."""
        if len(self.pictures) > MANY:
            return ""
        names = {name.rpartition("/")[2]: name for name in self.pictures}
        found = difflib.get_close_matches(re.split(r"[/\\]", wanted)[-1], names, 1)
        return names[found[0]] if found else ""


def files_below(root: str) -> Iterator[str]:
    """Links to folders are followed, once each."""
    waiting, seen = [""], set()
    while waiting:
        folder = waiting.pop()
        path = os.path.join(root, folder)
        try:
            status = os.stat(path)
            entries = list(os.scandir(path))
        except OSError:  # what cannot be listed holds nothing for us
            continue
        if (place := (status.st_dev, status.st_ino)) in seen:
            continue
        seen.add(place)
        for entry in entries:
            if entry.name.startswith(".") or entry.name in LEFT_OUT:
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                waiting.append(name)
            else:
                yield name


def folded(name: str) -> str:
    """What two spellings of a file's name share."""
    return unicodedata.normalize("NFC", name).casefold()


def forms(name: str) -> Iterator[list[str]]:
    """The parts, folded, of the names that one can mean: as it stands, and with its percent escapes undone, each with
    slashes of either direction; of an address its path, or what its query names ("/data/local-files/?d=a/b.jpg")."""
    texts = [name]
    if "://" in name or name.startswith("/data/"):
        try:
            address = urlsplit(name)
            asked = [v for values in parse_qs(address.query).values() for v in values]
            texts = [text for text in (address.path, *asked) if PurePosixPath(text).suffix] or [address.path]
        except ValueError:
            texts = [name]
    seen = []
    for text in texts:
        for one in (text, unquote(text)):
            parts = [p for p in folded(one.replace("\\", "/")).split("/") if p not in ("", ".", "..")]
            if parts and parts not in seen:
                seen.append(parts)
                yield parts


def shared(one: list[str], other: list[str]) -> int:
    """How many of the last parts are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other)):
        if a != b:
            break
        count += 1
    return count
