"""Does the alignment notice? Faults are planted in the Jittor twin, one at a time; twins without a fault must pass."""

import tempfile
import time
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

SEEDS = 10  # sound runs, each with other weights, pictures and dropout masks
CHECKED = [name for name in STAGES if name != "environment"]
PLAN = AlignPlan(steps=6, step_min_size=64, step_max_size=96, detection_images=8, keep_all=True)


def small_config(folder: Path, seed: int, plain: bool, decoder: str = "detr") -> Config:
    """A model that has all parts of the large one, DC5 too, and is quick."""
    return Config().replace(
        backbone="resnet18", backbone_stages=3, dilation=True, backbone_norm="frozen", enc_layers=2, dec_layers=2,
        hidden_dim=64, nheads=4, dim_feedforward=128, num_queries=20, num_classes=len(CATEGORIES),
        coco_path=str(folder), min_size=64, max_size=96, epochs=12, lr_drop=5, seed=seed, plain=plain, decoder=decoder)


def run(plain: bool = False, faults: tuple[Fault, ...] = (*FAULTS, *BOX_FAULTS), seeds: int = SEEDS) -> int:
    """Returns: 0 only if every fault is caught by its stage, and every twin without a fault passes."""
    began = time.monotonic()
    alarms, caught = 0, 0
    for decoder in dict.fromkeys(fault.decoder for fault in faults):
        mine = [fault for fault in faults if fault.decoder == decoder]
        for seed in range(seeds):
            found = one_seed(plain, decoder, seed, mine if seed == seeds - 1 else [], began)
            alarms, caught = alarms + found[0], caught + found[1]
    print(f"{caught} of {len(faults)} faults caught, {alarms} false alarms")
    return 0 if caught == len(faults) and alarms == 0 else 1


def one_seed(plain: bool, decoder: str, seed: int, faults: list[Fault], began: float) -> tuple[int, int]:
    """(false alarms of the twin without a fault, faults that are caught)"""
    with tempfile.TemporaryDirectory() as folder:
        trial = sample_trial(Path(folder) / "data", seed, plain, decoder)
        try:
            alarm = next((stage for stage in run_stages(trial, CHECKED) if not stage.passed), None)
            tell(began, f"without a fault, decoder {decoder}, seed {seed}", "false alarm" if alarm else "passes", alarm)
            return int(alarm is not None), sum(is_caught(trial, fault, began) for fault in faults)
        finally:
            trial.close()


def sample_trial(folder: Path, seed: int, plain: bool, decoder: str = "detr") -> Trial:
    write_sample(folder, seed)
    return Trial(small_config(folder, seed, plain, decoder), None, PLAN)


def is_caught(trial: Trial, fault: Fault, began: float) -> bool:
    """Whether the first stage that fails is the one that must. The twins without a fault are not computed again."""
    trial.start(JITTOR, fault)
    stage = run_stages(trial, CHECKED, stop_at_failure=True)[-1]
    ended = stage.items[0].name == "error"  # and so has compared nothing: it may not even have been planted
    right = not stage.passed and stage.name == fault.stage and not ended
    outcome = "caught" if right else "MISSED" if stage.passed else (
        "ENDED IN AN ERROR" if ended else f"caught, but not by {fault.stage}")
    tell(began, fault.name, outcome, None if stage.passed else stage)
    return right


def tell(began: float, what: str, outcome: str, stage: Stage | None) -> None:
    by = "" if stage is None else f"  {stage.name}: {stage.worst[:70]}"
    print(f"{time.monotonic() - began:>5.0f} s  {what:<64} {outcome}{by}", flush=True)
