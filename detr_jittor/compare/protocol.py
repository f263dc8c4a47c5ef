"""Whether runs are equal: one protocol, of which only the framework and the seed differ."""

from dataclasses import dataclass
from pathlib import Path

from detr_jittor.config.options import FRAMEWORKS, Config, read_config
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log

# What changes nothing in what is learned, nor what it takes: where a run writes, whether it was interrupted, and
# whether Jittor computes with our kernels.
FREE = ("framework", "output_dir", "resume", "save_every_steps", "plain")

NEEDED = ("epoch", "step", "n_parameters", "train_step_time", "train_seconds", "peak_memory_mb")  # in each record


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    folder: Path
    config: Config
    log: list[dict]  # one record an epoch

    @property
    def framework(self) -> str:
        return self.config.run.framework

    @property
    def seed(self) -> int:
        return self.config.run.seed


Pairs = dict[int, dict[str, Run]]  # seed → framework → run


def read_run(folder: str | Path) -> Run:
    """Errors: DetrError if the folder holds no run, or one that has not reached its end."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DetrError(f"{folder}: no such folder.", "Pass the folders that runs have written.")
    run = Run(folder, read_config(folder / "config.json"), read_log(folder / "log.txt"))
    for number, record in enumerate(run.log, 1):
        if missing := [key for key in NEEDED if key not in record]:
            raise DetrError(f"{folder / 'log.txt'}, line {number}: has no {missing[0]}.",
                            "Pass the folders that runs of this program have written.")
    if not is_complete(run):
        raise DetrError(f"{folder}: stopped after epoch {run.log[-1]['epoch']}; its last is "
                        f"{run.config.optim.epochs - 1}.", "Finish it with --resume auto.")
    return run


def is_complete(run: Run) -> bool:
    last, optim = run.log[-1], run.config.optim
    at_last_step = optim.max_steps is not None and last["step"] >= optim.max_steps
    return last["epoch"] == optim.epochs - 1 or at_last_step


def protocol(config: Config) -> dict:
    """The settings that must be equal, as they act."""
    values = {name: value for name, value in config.flat().items() if name not in (*FREE, "seed")}
    if config.run.framework == "jittor" or config.model.dropout == 0:
        values["dropout_masks"] = "shared"  # Jittor has no others; without dropout there are none
    if values["coco_path"]:
        values["coco_path"] = str(Path(values["coco_path"]).resolve())
    return values


def differences(one: Config, other: Config) -> list[str]:
    """What differs between two protocols, e.g. "lr 0.001 and 0.0001"."""
    a, b = protocol(one), protocol(other)
    return [f"{name} {a[name] if a[name] != '' else 'none'} and {b[name] if b[name] != '' else 'none'}"
            for name in a if a[name] != b[name]]


def differences_in_course(one: Run, other: Run) -> list[str]:
    """What differs in what two runs did, whatever their settings say."""
    last, other_last = one.log[-1], other.log[-1]
    found = [f"{what} {last[key]} and {other_last[key]}" for key, what in
             (("n_parameters", "trainable parameters"), ("step", "steps")) if last[key] != other_last[key]]
    if not found and steps(one) != steps(other):
        found.append("the steps of the epochs, or which epochs were evaluated")
    return found


def steps(run: Run) -> list[tuple[int, int, bool]]:
    """Epoch, steps up to its end, and whether it was evaluated"""
    return [(record["epoch"], record["step"], "test_coco_eval_bbox" in record) for record in run.log]


def paired(runs: list[Run]) -> Pairs:
    """The runs by seed and framework.

    Errors: DetrError if they are not equal, naming what differs, or if a seed has not one run of each framework.
    """
    first, pairs = runs[0], {}
    for run in runs[1:]:
        if found := differences(first.config, run.config) or differences_in_course(first, run):
            raise DetrError(f"{first.folder} and {run.folder} are not equal runs: they differ in {'; '.join(found)}.",
                            "Only the framework and the seed may differ.")
    for run in runs:
        of_seed = pairs.setdefault(run.seed, {})
        if run.framework in of_seed:
            raise DetrError(f"{of_seed[run.framework].folder} and {run.folder} are both runs of {run.framework} with "
                            f"seed {run.seed}.", "Give one run of each framework for each seed.")
        of_seed[run.framework] = run
    for seed, of_seed in pairs.items():
        if missing := [framework for framework in FRAMEWORKS if framework not in of_seed]:
            raise DetrError(f"seed {seed} has no run of {missing[0]}.",
                            "Give one run of each framework for each seed.")
    return pairs
