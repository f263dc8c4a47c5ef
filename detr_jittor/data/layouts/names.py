"""Lists of class names and of pictures, as labelling tools write them beside their labels."""

from pathlib import Path

import yaml

from detr_jittor.data.faults import Fault
from detr_jittor.errors import DetrError


def read_text(file: Path) -> str:
    """A text in UTF-8, with or without a byte-order mark, or else in the system's older Chinese or Western form.

    Errors: DetrError if it cannot be read.
    """
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        raise DetrError(f"{file}: cannot be read ({getattr(error, 'strerror', error)}).", "Look at the file.") from None
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def lines(file: Path) -> list[str]:
    """The lines that are not empty, without outer spaces. Errors: as `read_text`."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def read_yaml(file: Path) -> dict:
    """A mapping in which every value is a text, a list or a mapping: a class may be called `no` or 1.0, which other
    readers take for something else.

    Errors: DetrError if it is no mapping in YAML.
    """
    try:
        content = yaml.load(read_text(file), yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DetrError(f"{file}: not valid YAML ({' '.join(str(error).split())[:200]}).", "Correct it.") from None
    if type(content) is not dict:
        raise DetrError(f"{file}: not a mapping of keys to values.", "Give names, train and val.")
    return content


def read_darknet(file: Path) -> dict:
    """A *.data file of Darknet, as CVAT and Datumaro write it ("train = data/train.txt"), with the keys of a data.yaml.

    Errors: as `read_text`.
    """
    pairs = dict((part.strip() for part in line.split("=", 1)) for line in lines(file) if "=" in line)
    return {"val" if key == "valid" else "nc" if key == "classes" else key: value for key, value in pairs.items()}


def names_of(value, count: str | None = None) -> tuple[dict[int, str], list[Fault]]:
    """{class number: name} of what stands as `names` in a data.yaml: a list, or a mapping from numbers.

    Args: count: what stands as `nc`, which tells how many there are where there are no names.
    """
    faults, found = [], {}
    if value in (None, "") and str(count).isdecimal() and 0 < int(count) <= 100_000:
        return {number: str(number) for number in range(int(count))}, []
    pairs = list(enumerate(value)) if type(value) is list else list(value.items()) if type(value) is dict else []
    if not pairs:
        faults.append(Fault("names", "is neither a list of class names nor a mapping from numbers to them",
                            "Give the names of the classes."))
    for key, name in pairs:
        if not str(key).strip().isdecimal() or int(key) > 2**31:
            faults.append(Fault(f"names: {key}", "is no class number", "Count the classes from 0."))
        elif type(name) is not str or not name.strip():
            faults.append(Fault(f"names: {key}", "has no name", "Give a text."))
        else:
            found[int(key)] = name.strip()
    return found, faults
