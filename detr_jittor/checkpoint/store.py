"""Writes and reads checkpoints, in the format that the suffix names. No pickle is ever executed.

A write never endangers what is there: it goes to a temporary name in the same folder, is flushed to the disk, read
back and held against its checksum, and only then renamed.
"""

import os
import shutil
import struct
import zipfile
from pathlib import Path

from safetensors import SafetensorError

from detr_jittor.checkpoint import pickle_file, safetensors_file, torch_file, torch_writer
from detr_jittor.checkpoint.beside import completed
from detr_jittor.checkpoint.layout import Checkpoint, from_record, to_record
from detr_jittor.checkpoint.unpickle import DAMAGE, BadFile
from detr_jittor.errors import DetrError
from detr_jittor.report.replacing import replacing

WRITERS = {".pkl": pickle_file.write, ".pth": torch_writer.write, ".safetensors": safetensors_file.write}
CHECKS = {".pkl": pickle_file.check, ".pth": torch_file.check, ".safetensors": safetensors_file.check}
DAMAGED = (BadFile, *DAMAGE, MemoryError, struct.error, zipfile.BadZipFile, NotImplementedError, RuntimeError,
           SafetensorError)


def save(path: str | Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write a checkpoint; the format follows from the suffix (.pkl, .pth, .safetensors).

    Args:
        previous: a second name, under which the file that is replaced is kept.

    Errors: DetrError if it cannot be written; the file that was there is untouched then.
    """
    path = Path(path)
    write, check = WRITERS[known_suffix(path)], CHECKS[path.suffix]
    record = to_record(checkpoint)
    try:
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:
                write(file, record)
                file.flush()
                os.fsync(file.fileno())
            check(temporary)
            if previous and path.exists():
                link(path, previous)
        sync_folder(path.parent)
    except (OSError, *DAMAGED) as error:
        raise DetrError(f"{path}: the checkpoint could not be written ({reason(error)}).",
                        "The one before it is untouched; make room or choose another --output_dir.") from None


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint: ours, the reference code's, or any file of named arrays.

    Errors: DetrError if it is missing, of an unknown format, damaged, or asks for code to be executed.
    """
    try:
        return completed(Path(path), from_record(read(path)))
    except DAMAGED as error:
        raise unreadable(path, error) from None


def read(path: str | Path):
    """The content of a file as it stands: plain data and NumPy arrays. .pth, .pt and .bin are PyTorch's.

    Errors: as `load`.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long, or not ours to look at
        raise DetrError(f"{path}: no such file.", "Give the path of a checkpoint.")
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if path.suffix == ".safetensors":
            return safetensors_file.read(path)
        if path.suffix in (".pth", ".pt", ".bin") or head == b"PK\x03\x04":
            return torch_file.read(path)
        if path.suffix == ".pkl":
            return pickle_file.read(path)
    except (OSError, *DAMAGED) as error:
        raise unreadable(path, error) from None
    raise DetrError(f"{path}: {path.suffix or 'no suffix'} is no format of checkpoints.",
                    "They end in .pkl, .pth or .safetensors.")


def link(path: Path, other: Path) -> None:
    """Give a checkpoint a second name without writing it twice; a copy where the file system has no links.

    Files are never changed in place, so both names keep what they had.
    """
    with replacing(other) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def known_suffix(path: Path) -> str:
    if path.suffix not in WRITERS:
        raise DetrError(f"{path}: {path.suffix or 'no suffix'} is no format of checkpoints.",
                        "They end in .pkl, .pth or .safetensors.")
    return path.suffix


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unreadable(path: str | Path, error: Exception) -> DetrError:
    if isinstance(error, MemoryError):  # a good file too can be larger than what is left
        return DetrError(f"{path}: there is not enough memory to read it.",
                         "End other programs, or take a smaller file.")
    return DetrError(f"{path}: not a readable checkpoint: {reason(error)}.", "Take another or an earlier one.")


def reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, BadFile) else f"{type(error).__name__}: {str(error)[:100]}"
