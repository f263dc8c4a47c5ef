"""An annotation file in COCO's format, before anything in it is looked at."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detr_jittor.data.faults import Fault
from detr_jittor.errors import DetrError

FORMAT = "Pass an annotation file in COCO's format."


def read_json(path: Path) -> dict:
    """The three lists of a COCO file. Errors: DetrError if it cannot be read or is no COCO file."""
    try:
        content = parsed(path.read_bytes())
    except OSError as error:
        raise DetrError(f"{path}: cannot be read ({error.strerror}).", FORMAT) from None
    except (ValueError, RecursionError) as error:
        raise DetrError(f"{path}: not valid JSON ({error}).", FORMAT) from None
    if type(content) is not dict:
        raise DetrError(f"{path}: not a JSON object.", FORMAT)
    wrong = [key for key in ("images", "annotations", "categories") if type(content.get(key)) is not list]
    if wrong:
        raise DetrError(f"{path}: no list of {' and none of '.join(wrong)}.", FORMAT)
    return content


def parsed(content: bytes):
    """JSON in UTF-8, 16 or 32, with or without a byte-order mark, or else as Python writes it on a Chinese Windows."""
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        return json.loads(content.decode("gb18030"))


def empty_lists(images: list, categories: list) -> list[Fault]:
    return [Fault(kind, "the list is empty", FORMAT) for kind, records in (("images", images),
                                                                          ("categories", categories)) if not records]


@contextmanager
def garbage_kept() -> Iterator[None]:
    """No garbage collection: among millions of small objects it costs a third of the time and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
