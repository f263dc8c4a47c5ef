"""The records of a COCO file, read column by column, with every fault of every record noted.

N counts records. A value that is at fault becomes None in its column, so that the checks that follow can go on.
"""

import json
import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from detr_jittor.data.faults import Fault
from detr_jittor.errors import is_unicode

LARGEST_ID = 2**63 - 1
ID, CATEGORY_ID = "an integer from 0 to 2^63 − 1", "an integer of at most 63 bits"  # what is_id and is_category_id take
LARGEST_SIDE = 1_000_000  # pixels
LARGEST_NUMBER = 1e9
ROUNDED_OFF = 1e-3  # pixels by which a width may be below 0: the difference of two floating-point numbers
REQUIRED = object()


def is_id(value) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_ID


def is_category_id(value) -> bool:
    return type(value) is int and -LARGEST_ID <= value <= LARGEST_ID


def is_side(value) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_SIDE


def is_flag(value) -> bool:
    return type(value) in (int, bool) and value in (0, 1)


def is_text(value) -> bool:
    return type(value) is str and value != "" and is_unicode(value)


def is_number(value) -> bool:
    """An int or a float, and finite: the comparison is false for NaN and right for integers of any size."""
    return type(value) in (int, float) and -LARGEST_NUMBER < value < LARGEST_NUMBER


def is_area(value) -> bool:
    return value is None or (is_number(value) and value >= 0)


def is_box(value) -> bool:
    return (type(value) is list and len(value) == 4 and all(map(is_number, value))
            and value[2] >= -ROUNDED_OFF and value[3] >= -ROUNDED_OFF)


# Readers of what stands in another type than the format says: the value that is meant, or None.

def whole(value) -> int | None:
    """A whole number that is given as a text or with a decimal point."""
    if type(value) is float and abs(value) < 2**53 and value.is_integer():
        return int(value)
    if type(value) is str and re.fullmatch(r"[+-]?[0-9]{1,19}(\.0*)?", value.strip()):
        return int(value.strip().partition(".")[0])
    return None


def meant(value):
    """A whole number as it is meant, where `whole` can tell; else the value as it stands."""
    return value if (number := whole(value)) is None else number


def number(value) -> float | None:
    """A number that is given as a text."""
    decimal = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?"
    return float(value) if type(value) is str and re.fullmatch(decimal, value.strip().lower()) else None


def numbers(value) -> list | None:
    """A list of numbers of which some are given as texts."""
    return [number(v) if type(v) is str else v for v in value] if type(value) is list else None


def text(value) -> str | None:
    """A text that is given as a number."""
    return str(value) if type(value) in (int, float) else None


class Records:
    """The records of one kind ("image", "annotation", "category") and the list into which their faults go."""

    def __init__(self, kind: str, records: list, faults: list[Fault], called: list[str] | None = None):
        """Args: called: how each record is called in messages, where that is not by its id."""
        self.kind, self.faults, self.called = kind, faults, called
        self.converted: dict[str, int] = {}  # key → values that were read although they are of another type
        self.records = [r if type(r) is dict else {} for r in records]
        for position, record in enumerate(records):
            if type(record) is not dict:
                self.fault(position, "is not a JSON object", "Remove it.")

    def __len__(self) -> int:
        return len(self.records)

    def name(self, position: int) -> str:
        """How a record is called: by its id, or by its place in the file where it has none."""
        if self.called:
            return self.called[position]
        number = self.records[position].get("id")
        return f"{self.kind} {number}" if is_category_id(number) else f"{self.kind} no. {position + 1} of the file"

    def fault(self, position: int, what: str, fix: str, detail="") -> None:
        record = f"{self.name(position)} ({detail})" if detail != "" else self.name(position)
        self.faults.append(Fault(record, what, fix))

    def column(self, key: str, accepts: Callable[[object], bool], expected: str, default=REQUIRED,
               reads: Callable[[object], object] = lambda value: None) -> list:
        """[N] the values of a key, None where one is missing or not accepted.

        Args:
            expected: what an accepted value is, in words.
            default: stands for a value that is absent; without one the key is required.
            reads: makes an acceptable value of one of another type, or None; the record gets it too.
        """
        values = [record.get(key, default) for record in self.records]
        for position, value in enumerate(values):
            if value is REQUIRED:
                self.fault(position, f"has no {key}", f"Add it: {expected}.")
            elif accepts(value):
                continue
            elif (meant := reads(value)) is not None and accepts(meant):
                values[position] = self.records[position][key] = meant
                self.converted[key] = self.converted.get(key, 0) + 1
                continue
            else:
                self.fault(position, f"{key} is not {expected}", "Correct it.", quoted(value))
            values[position] = None
        return values

    def conversions(self) -> list[str]:
        """A remark on what was read although it is of another type, if there was anything."""
        if not self.converted:
            return []
        keys = ", ".join(f"{key} of {count}" for key, count in self.converted.items())
        kinds = "categories" if self.kind == "category" else f"{self.kind}s"
        return [f"{kinds}: numbers are given as texts, texts as numbers, or whole numbers with a decimal point "
                f"({keys}): they are read as what they mean"]

    def unique(self, key: str, values: list) -> None:
        """Note every record whose value another one has too; None is no value."""
        counts = Counter(values)
        if len(counts) == len(values):
            return
        for position, value in enumerate(values):
            if value is not None and counts[value] > 1:
                self.fault(position, f"{key} occurs more than once", "Make it unique.", shortened(value))

    def known(self, key: str, values: list, among: dict, kind: str, complete: bool = True) -> np.ndarray:
        """[N] int64: what `among` has for each value, -1 for a fault (noted if the value is not None).

        Args:
            complete: whether `among` has all that the file names; else what is absent is no fault of its own.
        """
        found = np.empty(len(values), np.int64)
        for position, value in enumerate(values):
            found[position] = place = among.get(value, -1)
            if place < 0 and value is not None and complete:
                self.fault(position, f"{key} is not the id of {kind} in this file",
                           f"Correct it or add the {kind.split()[-1]}.", value)
        return found


def shortened(value) -> str:
    text = value if type(value) is str else repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def quoted(value) -> str:
    """A value as it stands in the file: a text in quotation marks, a number without."""
    try:
        return shortened(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return shortened(repr(value))
