"""Reads PyTorch's .pth files without torch and without executing them: the zip format and the one before it."""

import io
import mmap
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from detr_jittor.checkpoint.torch_names import TORCH, StorageType, widened
from detr_jittor.checkpoint.unpickle import BadFile, Constructor, unpickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read(path: Path):
    """The content of a .pth file: plain data and NumPy arrays; bfloat16 comes as float32.

    Errors: BadFile, and what zipfile raises for a damaged archive.
    """
    with open(path, "rb") as file:
        head = file.read(4)
    if not head:
        raise BadFile("it is empty")
    return read_zip(path) if head == b"PK\x03\x04" else read_legacy(path)


def check(path: Path) -> None:
    """Hold every member of a zip file against its checksum. Errors: as `read`."""
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise BadFile(f"{name} in it is damaged")


class Members:
    """The members of a zip archive, of which no more bytes are read than the file has.

    PyTorch never compresses, so a compressed member is a zip bomb or no checkpoint. Names are looked up, never used
    as paths.
    """

    def __init__(self, archive: zipfile.ZipFile, budget: int):
        self.archive, self.budget = archive, budget
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(names) != 1:
            raise BadFile("no PyTorch checkpoint (a zip archive without one data.pkl)")
        self.root = names[0][: -len("data.pkl")]
        if self.root + "byteorder" in archive.namelist() and self.read("byteorder").strip() != b"little":
            raise BadFile("written on a big-endian machine, which is not supported")

    def read(self, name: str) -> bytes:
        info = self.archive.getinfo(self.root + name)
        self.budget -= info.file_size
        if info.compress_type != zipfile.ZIP_STORED or self.budget < 0:
            raise BadFile(f"{name} in it is compressed or larger than the file, which PyTorch never writes")
        return self.archive.read(info)


def read_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        members = Members(archive, budget=path.stat().st_size)
        storages: dict[tuple, np.ndarray] = {}

        def storage(identity) -> np.ndarray:
            kind, key, count = storage_id(identity)
            if (kind, key) not in storages:
                storages[kind, key] = numbers(members.read(f"data/{key}"), kind, count)
            return storages[kind, key]

        return unpickle(io.BytesIO(members.read("data.pkl")), path.stat().st_size, TORCH, storage)


def storage_id(identity) -> tuple[StorageType, str, int]:
    """(type, key, count) of a persistent id ("storage", type, key, device, count, …)."""
    if (not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage"
            or not isinstance(identity[1], StorageType) or not isinstance(identity[2], str)
            or type(identity[4]) is not int):
        raise BadFile("damaged (a storage)")
    return identity[1], identity[2], identity[4]


def numbers(data: bytes, kind: StorageType, count: int) -> np.ndarray:
    """[count] numbers of a storage."""
    if count * kind.dtype.itemsize != len(data):
        raise BadFile(f"damaged (a storage of {count} numbers in {len(data)} bytes)")
    values = np.frombuffer(bytearray(data), kind.dtype)  # torch warns of arrays that it cannot write to
    return widened(values) if kind.bfloat16 else values


def read_legacy(path: Path):
    """Three pickles (magic number, version, machine), the object, the list of storage keys, then the storages.

    The storages come last and do not tell their type, so the object is read twice: first for the types of its
    storages, then, with the storages at hand, for itself.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if unpickle(data, len(data), {}) != LEGACY_MAGIC:
            raise BadFile("no PyTorch checkpoint")
        unpickle(data, len(data), {})  # the version, always 1001
        if not unpickle(data, len(data), {}).get("little_endian", True):
            raise BadFile("written on a big-endian machine, which is not supported")
        start = data.tell()
        kinds: dict[str, StorageType] = {}
        unpickle(data, len(data), SKIPPED, lambda identity: note_kind(kinds, identity))
        storages = {key: legacy_storage(data, kinds, key) for key in unpickle(data, len(data), {})}
        data.seek(start)
        return unpickle(data, len(data), TORCH, lambda identity: storages[storage_id(identity)[1]])


SKIPPED = {name: Constructor(lambda *_: None) if "_rebuild_" in name else value for name, value in TORCH.items()}


def note_kind(kinds: dict[str, StorageType], identity) -> None:
    kind, key, _ = storage_id(identity)
    if len(identity) > 5 and identity[5] is not None:
        raise BadFile("a view of a storage, from before PyTorch 0.4; load and save it with a newer PyTorch")
    kinds[key] = kind


def legacy_storage(data: mmap.mmap, kinds: dict[str, StorageType], key: str) -> np.ndarray:
    """The next storage: its count as int64, then its numbers."""
    (count,) = struct.unpack("<q", data.read(8))
    if key not in kinds or not 0 <= count * kinds[key].dtype.itemsize <= len(data):
        raise BadFile(f"damaged (a storage of {count} numbers)")
    return numbers(data.read(count * kinds[key].dtype.itemsize), kinds[key], count)
