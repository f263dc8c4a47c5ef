"""Faults of a dataset, gathered so that the user hears of all of them at once."""

from dataclasses import dataclass

from detr_jittor.errors import DetrError

SHOWN = 5  # records of each kind that the one-line message names


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one record. Faults that share `what` and `fix` are told together."""

    record: str  # e.g. "annotation 12"
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.record}: {self.what}. {self.fix}"


class DatasetError(DetrError):
    """All faults of one annotation file; the message names the first few records of each kind."""

    def __init__(self, file: str, faults: list[Fault]):
        kinds: dict[tuple[str, str], list[str]] = {}
        for fault in faults:
            kinds.setdefault((fault.what, fault.fix), []).append(fault.record)
        told = [f"{listed(records)}: {what}. {fix}" for (what, fix), records in kinds.items()]
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        super().__init__(f"{file}: {count}: {' | '.join(told)}")
        self.file, self.faults = file, faults


def listed(records: list) -> str:
    """The first few of `records` and how many more there are: "3, 5, 8 and 12 more"."""
    more = f" and {len(records) - SHOWN} more" if len(records) > SHOWN else ""
    return ", ".join(map(str, records[:SHOWN])) + more
