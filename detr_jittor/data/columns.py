"""The records of a COCO file, read column by column, with every fault of every record noted.

N counts records. A value that is at fault becomes None in its column, so that the checks that follow can go on.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from detr_jittor.data.faults import Fault
from detr_jittor.errors import is_unicode

LARGEST_ID = 2**63 - 1
LARGEST_SIDE = 1_000_000  # pixels
LARGEST_NUMBER = 1e9
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
    return type(value) is list and len(value) == 4 and all(map(is_number, value)) and value[2] >= 0 <= value[3]


class Records:
    """The records of one kind ("image", "annotation", "category") and the list into which their faults go."""

    def __init__(self, kind: str, records: list, faults: list[Fault]):
        self.kind, self.faults = kind, faults
        self.records = [r if type(r) is dict else {} for r in records]
        for position, record in enumerate(records):
            if type(record) is not dict:
                self.fault(position, "is not a JSON object", "Remove it.")

    def __len__(self) -> int:
        return len(self.records)

    def name(self, position: int) -> str:
        """How a record is called: by its id, or by its place in the file where it has none."""
        number = self.records[position].get("id")
        return f"{self.kind} {number}" if is_category_id(number) else f"{self.kind} no. {position + 1} of the file"

    def fault(self, position: int, what: str, fix: str, detail="") -> None:
        record = f"{self.name(position)} ({detail})" if detail != "" else self.name(position)
        self.faults.append(Fault(record, what, fix))

    def column(self, key: str, accepts: Callable[[object], bool], expected: str, default=REQUIRED) -> list:
        """[N] the values of a key, None where one is missing or not accepted.

        Args:
            expected: what an accepted value is, in words.
            default: stands for a value that is absent; without one the key is required.
        """
        values = [record.get(key, default) for record in self.records]
        for position, value in enumerate(values):
            if value is REQUIRED:
                self.fault(position, f"has no {key}", f"Add it: {expected}.")
            elif not accepts(value):
                self.fault(position, f"{key} is not {expected}", "Correct it.", shortened(value))
            else:
                continue
            values[position] = None
        return values

    def unique(self, key: str, values: list) -> None:
        """Note every record whose value another one has too; None is no value."""
        counts = Counter(values)
        if len(counts) == len(values):
            return
        for position, value in enumerate(values):
            if value is not None and counts[value] > 1:
                self.fault(position, f"{key} occurs more than once", "Make it unique.", shortened(value))

    def known(self, key: str, values: list, among: dict, kind: str) -> np.ndarray:
        """[N] int64: what `among` has for each value, -1 for a fault (noted if the value is not None)."""
        found = np.empty(len(values), np.int64)
        for position, value in enumerate(values):
            found[position] = place = among.get(value, -1)
            if place < 0 and value is not None:
                self.fault(position, f"{key} is not the id of {kind} in this file",
                           f"Correct it or add the {kind.split()[-1]}.", value)
        return found


def shortened(value) -> str:
    text = value if type(value) is str else repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
