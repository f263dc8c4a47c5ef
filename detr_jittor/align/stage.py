"""What one stage of the alignment found."""

from dataclasses import dataclass, field

import numpy as np

from detr_jittor.align.measure import Item


@dataclass
class Stage:
    name: str
    items: list[Item]
    remarks: list[str] = field(default_factory=list)  # what the reader should know, a sentence each
    curves: dict[str, list[float]] = field(default_factory=dict)  # name → one value a step

    @property
    def passed(self) -> bool:
        """A stage that compared nothing has not passed."""
        return bool(self.items) and all(item.passed for item in self.items)

    @property
    def verdict(self) -> str:
        return "pass" if self.passed else "fail"

    @property
    def first_divergent(self) -> Item | None:
        return next((item for item in self.items if not item.passed), None)

    @property
    def worst(self) -> str:
        """The first divergent item; if all pass, the one with the largest error."""
        if item := self.first_divergent:
            return f"{item.name}: {item.note}" if item.note else item.name
        measured = [item for item in self.items if item.jittor]
        return max(measured, key=lambda item: item.jittor.rms).name if measured else ""

    @property
    def ratios(self) -> list[float]:
        return [item.ratio for item in self.items if item.ratio is not None]

    @property
    def median_ratio(self) -> float | None:
        return float(np.median(self.ratios)) if self.ratios else None

    def to_json(self) -> dict:
        return {"name": self.name, "verdict": self.verdict, "worst": self.worst, "median_ratio": self.median_ratio,
                "remarks": self.remarks, "curves": self.curves, "items": [item.to_json() for item in self.items]}
