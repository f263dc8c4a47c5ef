"""Does the alignment notice? Faults are planted in the Jittor twin, one at a time; twins without a fault must pass."""

import json
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from detr_jittor.align.box_faults import BOX_FAULTS
from detr_jittor.align.faults import FAULTS
from detr_jittor.align.plant import Fault
from detr_jittor.align.run import run_stages
from detr_jittor.align.sample import CATEGORIES, write_sample
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages import STAGES
from detr_jittor.align.trial import JITTOR, AlignPlan, Trial
from detr_jittor.config.options import Config
from detr_jittor.config.presets import OF_BOX
from detr_jittor.report.log import write_whole
from detr_jittor.twin import processor

ALL_FAULTS = (*FAULTS, *BOX_FAULTS)
CHECKED = [name for name in STAGES if name != "environment"]
PLAN = AlignPlan(steps=6, step_min_size=64, step_max_size=96, detection_images=8, keep_all=True)
FIRST = 9  # the seed with whose pictures every fault is caught by the stage that has to
CAUGHT = "caught"  # by that stage; "caught by …" is by another one


@dataclass
class SeedResult:
    """What one seed showed: other seeds have other weights, pictures and dropout masks.

    Attributes: accused: {decoder: what failed} of twins without a fault; faults: {name: outcome}, which begins with
        "caught" or the fault was missed; seconds: how long it took.
    """

    seed: int
    accused: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def missed(self) -> list[str]:
        return [name for name, outcome in self.faults.items() if not outcome.startswith(CAUGHT)]

    def __str__(self) -> str:
        caught = list(self.faults.values()).count(CAUGHT)
        lines = [f"seed {self.seed}: {caught} of {len(self.faults)} faults caught by the stage that has to, "
                 f"{len(self.faults) - caught - len(self.missed)} by another, {len(self.missed)} missed; "
                 f"{len(self.accused)} twins without a fault accused"]
        lines += [f"    {name}: {outcome}" for name, outcome in self.faults.items() if outcome != CAUGHT]
        return "\n".join(lines + [f"    accused, decoder {decoder}: {what}" for decoder, what in self.accused.items()])


def small_config(folder: Path, seed: int, plain: bool, decoder: str = "detr") -> Config:
    """A model that has all parts of the large one, DC5 too, and is quick.

    Args: decoder: of `ModelConfig`; with ", presets" behind it, with all that they have and groups
        of queries besides.
    """
    decoder, _, presets = decoder.partition(", ")
    config = Config().replace(
        backbone="resnet18", backbone_stages=3, dilation=True, backbone_norm="frozen", enc_layers=2, dec_layers=2,
        hidden_dim=64, nheads=4, dim_feedforward=128, num_queries=20, num_classes=len(CATEGORIES),
        coco_path=str(folder), min_size=64, max_size=96, epochs=12, lr_drop=5, seed=seed, plain=plain, decoder=decoder)
    return config.replace(**OF_BOX, query_groups=2) if presets else config


def run(plain: bool = False, faults: tuple[Fault, ...] = ALL_FAULTS, seeds: int = 1, first: int = FIRST,
        file: Path | None = None, command: str = "") -> int:
    """Plant every fault with every seed, and tell and write what came of it after each.

    Args:
        seeds: how many, from `first` on.
        file: JSON to write; None: none.
        command: that was given, for this file.

    Returns: 0 only if every fault is caught with every seed, with one at least by the stage that has to, and every twin
        without a fault passes.
    """
    began, results = time.monotonic(), []
    for seed in range(first, first + seeds):
        result = SeedResult(seed)
        for decoder in dict.fromkeys(fault.decoder for fault in faults):
            one_model(result, plain, decoder, [fault for fault in faults if fault.decoder == decoder], began)
        result.seconds = round(time.monotonic() - began - sum(r.seconds for r in results), 1)
        results.append(result)
        print(result, flush=True)
        if file:
            write_whole(file, json.dumps(to_json(results, plain, command), indent=1) + "\n")
    caught = sum(CAUGHT in outcomes and all(outcome.startswith(CAUGHT) for outcome in outcomes)
                 for fault in faults for outcomes in [[r.faults[fault.name] for r in results]])
    alarms = sum(len(r.accused) for r in results)
    print(f"{caught} of {len(faults)} faults caught, {alarms} false alarms")
    return 0 if caught == len(faults) and alarms == 0 else 1


def to_json(results: list[SeedResult], plain: bool, command: str) -> dict:
    return {"command": command, "processor": processor.name(), "kernels": "plain" if plain else "fast",
            "seeds": [asdict(result) for result in results]}


def one_model(result: SeedResult, plain: bool, decoder: str, faults: list[Fault], began: float) -> None:
    """Add to the result what the twins with this decoder showed, first without a fault and then with each."""
    with tempfile.TemporaryDirectory() as folder:
        trial = sample_trial(Path(folder) / "data", result.seed, plain, decoder)
        try:
            alarm = next((stage for stage in run_stages(trial, CHECKED) if not stage.passed), None)
            tell(began, f"without a fault, decoder {decoder}, seed {result.seed}",
                 "false alarm" if alarm else "passes", alarm)
            if alarm:
                result.accused[decoder] = f"{alarm.name}: {alarm.worst}"
            result.faults |= {fault.name: outcome(trial, fault, began) for fault in faults}
        finally:
            trial.close()


def sample_trial(folder: Path, seed: int, plain: bool, decoder: str = "detr") -> Trial:
    write_sample(folder, seed)
    return Trial(small_config(folder, seed, plain, decoder), None, PLAN)


def outcome(trial: Trial, fault: Fault, began: float) -> str:
    """What comes of a fault; it is caught if the first stage that fails is the one that must. The twins without a fault
    are not computed again."""
    trial.start(JITTOR, fault)
    stage = run_stages(trial, CHECKED, stop_at_failure=True)[-1]
    if stage.passed:
        found = "missed"
    elif stage.items[0].name == "error":  # and so has compared nothing: it may not even have been planted
        found = f"ended in an error: {stage.worst}"
    else:
        found = CAUGHT if stage.name == fault.stage else f"caught by {stage.name}, not by {fault.stage}"
    tell(began, fault.name, found, None if stage.passed else stage)
    return found


def tell(began: float, what: str, outcome: str, stage: Stage | None) -> None:
    by = "" if stage is None else f"  {stage.name}: {stage.worst[:70]}"
    print(f"{time.monotonic() - began:>5.0f} s  {what:<64} {outcome}{by}", flush=True)
