"""Folders that appear at once, whole."""

import contextlib
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def appearing(target: Path):
    """A new folder to fill; it takes its place `target` at the end. Nobody ever sees half of it, and when several
    processes make the same folder at once, one of theirs stays.

    Errors: OSError if the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="placing-", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        yield new
        try:
            os.rename(new, target)
        except OSError:
            if not target.is_dir():  # another process was quicker
                raise
