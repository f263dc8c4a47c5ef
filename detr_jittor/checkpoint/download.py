"""Fetches a file of weights once, into a cache folder: resumable, and checked against the hash in its name."""

import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from detr_jittor.errors import DetrError
from detr_jittor.report.digest import digest

CHUNK = 1 << 20
ATTEMPTS = 4  # a connection that breaks off is taken up again so often
TIMEOUT = 30  # seconds without an answer


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/detr-jittor/weights, usually ~/.cache/detr-jittor/weights"""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detr-jittor" / "weights"


def fetch(url: str, folder: Path | None = None) -> Path:
    """The file of a URL, from the folder if it is there, else downloaded.

    Args:
        url: its file name ends in the head of the SHA-256, as PyTorch names weights: resnet50-0676ba61.pth.
        folder: the cache; default `cache_folder()`.

    Errors: DetrError that names the file to put there by hand, if it cannot be fetched or has another hash.
    """
    folder = folder or cache_folder()
    path, part = folder / url.rsplit("/", 1)[-1], folder / (url.rsplit("/", 1)[-1] + ".part")
    fix = f"Download {url} by other means and put it into {folder}/."
    if path.is_file():
        if not has_hash(path):
            raise DetrError(f"{path}: damaged, its SHA-256 is not what its name says.", "Delete it.")
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download(url, part)
        if not has_hash(part):
            part.unlink()  # also when the half that lay there was of something else
            download(url, part)
    except (OSError, HTTPException, ValueError) as error:
        raise DetrError(f"{url}: cannot be downloaded ({reason(error)}).", fix) from None
    if not has_hash(part):
        part.unlink()
        raise DetrError(f"{url}: the SHA-256 of what was downloaded is not what its name says.", fix)
    os.replace(part, path)
    return path


def has_hash(path: Path) -> bool:
    """Whether a file's SHA-256 begins as its name says."""
    wanted = re.search(r"-([0-9a-f]{8,64})\.", path.name)[1]
    return digest(path).startswith(wanted)


def download(url: str, part: Path) -> None:
    """Download into `part`, going on behind what is there; a connection that breaks off is taken up again.

    Errors: OSError, with the reason; `part` keeps what has come.
    """
    for attempt in range(ATTEMPTS):
        if download_once(url, part):
            return
        if attempt == ATTEMPTS - 1:
            raise OSError(f"the connection broke off {ATTEMPTS} times; the next try goes on from there")


def download_once(url: str, part: Path) -> bool:
    """One connection. Returns: whether the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing behind what is there: it is whole, or something else
            return True
        raise
    with answer:
        have = have if answer.status == 206 else 0  # a server without ranges sends all of it again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file, \
                tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem) as bar:
            try:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            except (ConnectionError, TimeoutError, HTTPException):
                return False
            return total is None or file.tell() == total


def reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error)
