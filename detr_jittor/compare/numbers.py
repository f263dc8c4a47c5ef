"""The numbers of a comparison: each of both twins, for each seed."""

import statistics
from dataclasses import dataclass

from scipy.special import stdtrit

from detr_jittor.compare.protocol import Pairs, Run
from detr_jittor.config.options import FRAMEWORKS

AP_NAMES = ("AP", "AP50", "AP75")
SPLITS = ("test", "train_eval")  # the beginnings of their names in the log
LOSSES = ("train_loss", "train_eval_loss", "test_loss")


@dataclass(frozen=True)
class Quantity:
    """One number, of both twins, in the order of the seeds."""

    jittor: list[float]
    pytorch: list[float]

    @property
    def differences(self) -> list[float]:
        """Jittor − PyTorch, seed by seed."""
        return [a - b for a, b in zip(self.jittor, self.pytorch)]

    @property
    def difference(self) -> float:
        return statistics.fmean(self.differences)

    @property
    def ratio(self) -> float:
        """Jittor / PyTorch, of the means"""
        return statistics.fmean(self.jittor) / statistics.fmean(self.pytorch)

    @property
    def noise(self) -> float | None:
        """Within ± this lies the difference of the means in 95 of 100 cases, if the twins scatter alike (Student's t
        with pooled variance); None for one seed."""
        count = len(self.jittor)
        if count < 2:
            return None
        variances = statistics.variance(self.jittor) + statistics.variance(self.pytorch)
        return float(stdtrit(2 * count - 2, 0.975)) * (variances / count) ** 0.5

    def to_json(self) -> dict:
        return {"jittor": self.jittor, "pytorch": self.pytorch, "difference": self.differences}


def both(pairs: Pairs, number) -> Quantity:
    """Args: number: of a run."""
    return Quantity(*([number(of_seed[framework]) for of_seed in pairs.values()] for framework in FRAMEWORKS))


@dataclass(frozen=True)
class Evaluation:
    """AP, AP50 and AP75 of each run at one of its epochs."""

    epoch: Quantity
    values: dict[str, Quantity]  # those of AP_NAMES that are defined: without objects there is nothing to measure

    def to_json(self) -> dict:
        return {"epoch": self.epoch.to_json(), **{name: value.to_json() for name, value in self.values.items()}}


def evaluations(pairs: Pairs) -> dict[str, dict[str, Evaluation]]:
    """{split: {"last": …, "best": …}}; the best epoch is each run's own, by its AP on that split."""
    found = {}
    for split in SPLITS:
        key = f"{split}_coco_eval_bbox"
        if all(key in run.log[-1] for of_seed in pairs.values() for run in of_seed.values()):
            found[split] = {which: evaluation(pairs, key, choose) for which, choose in
                            (("last", last_record), ("best", best_record))}
    return found


def evaluation(pairs: Pairs, key: str, choose) -> Evaluation:
    def stat(i):
        return both(pairs, lambda run: choose(run, key)[key][i])

    values = {name: stat(i) for i, name in enumerate(AP_NAMES)}
    defined = {name: value for name, value in values.items() if min(value.jittor + value.pytorch) >= 0}
    return Evaluation(both(pairs, lambda run: choose(run, key)["epoch"]), defined)


def last_record(run: Run, key: str) -> dict:
    return [record for record in run.log if key in record][-1]


def best_record(run: Run, key: str) -> dict:
    """The first of those with the highest AP"""
    return max((record for record in run.log if key in record), key=lambda record: record[key][0])


def losses(pairs: Pairs) -> dict[str, dict[str, Quantity]]:
    """{name in the log: {"first": …, "last": …}}, at the first and the last epoch that has it"""
    found = {}
    for key in LOSSES:
        if all(any(key in record for record in run.log) for of_seed in pairs.values() for run in of_seed.values()):
            found[key] = {"first": both(pairs, lambda run, key=key: next(r[key] for r in run.log if key in r)),
                          "last": both(pairs, lambda run, key=key: last_record(run, key)[key])}
    return found


COSTS = {  # name → what it is, of a run
    "step_seconds": lambda run: statistics.median(r["train_step_time"] for r in run.log),
    "first_epoch_seconds": lambda run: run.log[0]["train_seconds"],
    "train_seconds": lambda run: sum(r["train_seconds"] for r in run.log),
    "evaluation_seconds": lambda run: sum(r.get(f"{split}_seconds", 0) for r in run.log for split in SPLITS),
    "peak_memory_mb": lambda run: max(r["peak_memory_mb"] for r in run.log),
}


def costs(pairs: Pairs) -> dict[str, Quantity]:
    """Seconds and memory. A step's seconds are the median over the epochs of an epoch's mean, data included."""
    return {name: both(pairs, number) for name, number in COSTS.items()}
