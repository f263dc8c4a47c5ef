"""`detr-jittor align`: hold both twins against float64, layer by layer, step by step."""

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

from detr_jittor.align import report, selftest
from detr_jittor.align.conditions import CONDITIONS
from detr_jittor.align.run import run_stages
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages import STAGES
from detr_jittor.align.trial import AlignPlan, Trial
from detr_jittor.checkpoint.architecture import num_classes
from detr_jittor.cli.options import add_config_arguments, config_and_start, given
from detr_jittor.config.check import check
from detr_jittor.config.options import Config
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.splits import open_split
from detr_jittor.engine.classes import in_its_labels
from detr_jittor.engine.start import resolve
from detr_jittor.errors import DetrError
from detr_jittor.report.log import make_folder, write_whole
from detr_jittor.types import State

HELP = "prove that the Jittor twin is no farther from float64 than the PyTorch twin"
DEFAULTS = {"min_size": 256, "max_size": 320}  # where the user gives none
SELF_TEST = ("plain", "seed", "output_dir")  # the options that the self-test has besides its own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--self-test", action="store_true", dest="self_test",
                        help="plant faults in the Jittor twin, one at a time, and see whether each is caught; with "
                             "--output_dir it writes self_test.json")
    parser.add_argument("--seeds", type=int, default=None, metavar="N",
                        help="the self-test with N seeds, from --seed on (9), each with other weights and pictures [1]")
    parser.add_argument("--faults", nargs="+", metavar="WORD",
                        help="the self-test with those faults alone whose name has one of these words [all]")
    parser.add_argument("--steps", type=int, default=AlignPlan.steps,
                        help="training steps that are compared [%(default)s]")
    parser.add_argument("--images", type=int, default=AlignPlan.detection_images,
                        help="pictures whose detections are compared [%(default)s]")
    parser.add_argument("--conditions", nargs="+", choices=tuple(CONDITIONS), default=[], metavar="C",
                        help="besides the ten stages, other conditions: threads (1 to 16 of them), alone (a picture "
                             "without its neighbours in the batch), bf16 (beside PyTorch's autocast), "
                             "processes (two, with half of the batch each)")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Returns: 0 only if every stage passes, or every fault is caught without a false alarm."""
    if args.self_test:
        return self_test(args)
    if args.seeds is not None or args.faults:
        raise DetrError(f"--{'faults' if args.faults else 'seeds'} has no effect without --self-test.",
                        "Add --self-test, or leave it out.")
    if args.steps < 1 or args.images < 1:
        raise DetrError(f"--steps {args.steps} --images {args.images}: nothing to compare.", "Give at least 1.")
    for name, value in DEFAULTS.items():
        setattr(args, name, getattr(args, name, value))
    config, start = config_and_start(args)
    if not config.run.output_dir:
        raise DetrError("align has nowhere to write its report.", "Pass --output_dir D.")
    check(config)
    with tempfile.TemporaryDirectory() as folder:
        if not config.data.coco_path:
            config = config.replace(coco_path=str(Path(folder) / "demo"))
            write_demo_set(config.data.coco_path, train=64, val=32, size=320)
        if start.checkpoint and not config.model.num_classes:
            config = config.replace(num_classes=num_classes(start.checkpoint))
        data = open_split(config.data, "train")
        if in_its_labels(config, start, data) is not data:
            raise DetrError(f"{start.file}: its classes have other numbers than those of {data.name}.",
                            "Give both the same category ids.")
        config = resolve(config, data, start)
        state = start.checkpoint.state if start.checkpoint else None
        return align(config, state, AlignPlan(args.steps, detection_images=args.images), args.conditions)


def self_test(args: argparse.Namespace) -> int:
    """Returns: 0 only if every fault is caught and no twin without a fault is accused. Errors: DetrError."""
    options = given(args)
    for name in (name for name in options if name not in SELF_TEST):
        raise DetrError(f"--{name} has no effect on --self-test, which has a model and pictures of its own.",
                        "Leave it out.")
    seeds, first = 1 if args.seeds is None else args.seeds, options.get("seed", selftest.FIRST)
    if seeds < 1 or first < 0:
        raise DetrError(f"--seeds {seeds} --seed {first} cannot be.", "Give at least 1 seed, counted from 0.")
    faults = tuple(fault for fault in selftest.ALL_FAULTS if any(word in fault.name for word in args.faults or [""]))
    if not faults:
        raise DetrError(f"--faults {shlex.join(args.faults)}: no fault has such a name.",
                        "detr_jittor/align/faults.py and box_faults.py beside it name them.")
    file = None
    if options.get("output_dir"):
        file = Path(options["output_dir"]) / "self_test.json"
        make_folder(file.parent)
    return selftest.run(options.get("plain", False), faults, seeds, first, file, command_of())


def command_of() -> str:
    return f"detr-jittor {shlex.join(sys.argv[1:])}"


def align(config: Config, state: State | None, plan: AlignPlan, conditions: list[str]) -> int:
    """Run all stages and these conditions, tell each as it ends, and write the report."""
    folder = Path(config.run.output_dir)
    make_folder(folder)
    seconds, began = {}, time.monotonic()

    def tell(stage: Stage) -> None:
        seconds[stage.name] = time.monotonic() - began - sum(seconds.values())
        ratio = "" if stage.median_ratio is None else f"median ratio {stage.median_ratio:.2f}"
        print(f"{stage.name:<12} {stage.verdict}  {len(stage.items):>5} comparisons  {seconds[stage.name]:>5.0f} s  "
              f"{ratio:<17}  {stage.worst[:90]}", flush=True)

    trial = Trial(config, state, plan, command=command_of())
    try:
        stages = run_stages(trial, [*STAGES, *conditions], done=tell)
    finally:
        trial.close()
    write_whole(folder / "alignment.json", json.dumps(report.to_json(stages, seconds), indent=1) + "\n")
    write_whole(folder / "alignment.html", report.to_html(stages, seconds))
    ratio = report.median_ratio(stages)
    print(f"\n{report.verdict(stages)}; the median of Jittor's error / PyTorch's error against float64 is "
          f"{'unknown' if ratio is None else format(ratio, '.3f')}. Report: {folder / 'alignment.html'}")
    return 0 if report.verdict(stages) == "pass" else 1
