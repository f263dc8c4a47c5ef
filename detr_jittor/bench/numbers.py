"""The arithmetic of a comparison: medians, spreads, and ratios pair by pair."""

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Row:
    """One line of the table: Jittor against one rival, measured in turn."""

    name: str
    rival: str  # the title of who is in the column `pytorch`
    pairs: list[tuple[float, float]] = field(default_factory=list)  # (Jittor, rival), measured one after the other
    unit: str = "s"
    ours: str = "Jittor"  # the title of who is in the column `jittor`
    work: float | None = None  # floating-point operations
    limit: float | None = None  # operations a second of the large matrix product, in the same minutes
    must: dict[str, float] = field(default_factory=dict)  # asked for: least "ratio", "limit_fraction"; most "jittor"
    note: str = ""  # why there is no figure, or what it is made of

    @property
    def jittor(self) -> float | None:
        return median(a for a, _ in self.pairs) if self.pairs else None

    @property
    def pytorch(self) -> float | None:
        return median(b for _, b in self.pairs) if self.pairs else None

    @property
    def ratios(self) -> list[float]:
        return [b / a for a, b in self.pairs]

    @property
    def ratio(self) -> float | None:
        """The median of the ratios pair by pair, so that what disturbs both of a pair does no harm."""
        return median(self.ratios) if self.pairs else None

    def fraction(self, value: float | None) -> float | None:
        """Which part of the limit a time reaches."""
        return self.work / value / self.limit if self.work and self.limit and value else None

    @property
    def met(self) -> bool | None:
        """Whether all that is asked for is reached; None where nothing is asked for or nothing was measured."""
        found = {"ratio": self.ratio, "limit_fraction": self.fraction(self.jittor), "jittor": self.jittor}
        if not self.must or any(found[name] is None for name in self.must):
            return None
        return all(found[name] <= wanted if name == "jittor" else found[name] >= wanted
                   for name, wanted in self.must.items())

    def to_json(self) -> dict:
        return {
            "name": self.name, "ours": self.ours, "rival": self.rival, "unit": self.unit, "jittor": self.jittor,
            "pytorch": self.pytorch, "ratio": self.ratio, "limit_fraction": self.fraction(self.jittor),
            "pytorch_limit_fraction": self.fraction(self.pytorch), "must": self.must,
            "met": self.met,
            "jittor_spread": spread([a for a, _ in self.pairs]), "pytorch_spread": spread([b for _, b in self.pairs]),
            "ratio_spread": spread(self.ratios), "pairs": [list(pair) for pair in self.pairs],
            "gflop": self.work and self.work / 1e9, "limit_gflops": self.limit and self.limit / 1e9,
            "note": self.note,
        }


def spread(values: list[float]) -> list[float] | None:
    """[least, most]"""
    return [min(values), max(values)] if values else None


def pairs(ours: list[float], theirs: list[float]) -> list[tuple[float, float]]:
    """What was measured in the same rounds; rounds that one of them did not finish are left out."""
    return list(zip(ours, theirs))
