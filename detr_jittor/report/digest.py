"""SHA-256 of files, of any size."""

import hashlib
from pathlib import Path

CHUNK = 2**20  # bytes that are read at once


def digest(file: str | Path) -> str:
    """In hexadecimal. Errors: OSError if the file cannot be read."""
    sha256 = hashlib.sha256()
    with open(file, "rb") as content:
        while part := content.read(CHUNK):
            sha256.update(part)
    return sha256.hexdigest()
