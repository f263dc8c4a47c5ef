"""The .pkl format: one pickle of plain data and NumPy arrays, with Jittor's checksum at its end.

`jittor.load` reads what is written here; what is read here is never executed (see unpickle.py).
"""

import hashlib
import mmap
import pickle
from pathlib import Path

from detr_jittor.checkpoint.pickle_arrays import ARRAYS
from detr_jittor.checkpoint.unpickle import BadFile, unpickle

MARK = b"HCAJSLHD"  # the last eight bytes of a file from jittor.save; the 20 before are the SHA-1 of all the rest
TRAILER = 20 + len(MARK)
CHUNK = 1 << 20


class Hashing:
    """A binary file that knows the SHA-1 of what was written to it."""

    def __init__(self, file):
        self.file, self.sha1 = file, hashlib.sha1()

    def write(self, data) -> int:
        self.sha1.update(data)
        return self.file.write(data)


def write(file, record: dict) -> None:
    """Write nested plain data with NumPy arrays at its leaves to an open binary file."""
    hashing = Hashing(file)
    pickle.Pickler(hashing, protocol=4).dump(record)
    file.write(hashing.sha1.digest() + MARK)


def read(path: Path):
    """The content of a .pkl file: plain data and NumPy arrays.

    Errors: BadFile.
    """
    check(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return unpickle(data, len(data), ARRAYS)


def check(path: Path) -> None:
    """Hold a file against its checksum, where it has one.

    Errors: BadFile for an empty file or another checksum.
    """
    size = path.stat().st_size
    if size == 0:
        raise BadFile("it is empty")
    with open(path, "rb") as file:
        file.seek(max(0, size - TRAILER))
        trailer = file.read()
        if not trailer.endswith(MARK):
            return
        file.seek(0)
        sha1, left = hashlib.sha1(), size - TRAILER
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            sha1.update(chunk)
            left -= len(chunk)
    if sha1.digest() != trailer[:20]:
        raise BadFile("its checksum is wrong; it was damaged on the way or on disk")
