"""`detr-jittor compare`: train both twins under one protocol and lay them side by side."""

import argparse
import shlex
from pathlib import Path

from detr_jittor.cli.options import add_config_arguments, given
from detr_jittor.compare.comparison import Comparison
from detr_jittor.compare.conditions import find_conditions, keep_conditions
from detr_jittor.compare.protocol import Pairs, paired, read_run
from detr_jittor.compare.report import write_comparison
from detr_jittor.compare.runs import run_folder, run_twins
from detr_jittor.config.check import check
from detr_jittor.config.options import FRAMEWORKS, Config, read_config
from detr_jittor.config.presets import PRESETS
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.splits import open_splits
from detr_jittor.engine.signals import StopRequest
from detr_jittor.engine.start import Start, resolve
from detr_jittor.errors import DetrError

HELP = "train both twins under one protocol and compare loss, AP, seconds and memory"
EVAL_TRAIN = 64  # training pictures whose loss in evaluation mode is followed, where the settings name no number
# These make no sense for two runs, or are set here.
NOT_HERE = ("framework", "resume", "eval", "start_epoch", "dropout_masks", "frozen_weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    group = parser.add_argument_group("the comparison")
    group.add_argument("--preset", choices=tuple(PRESETS["detr"]), help="settings that learn from scratch with this "
                       "--decoder: demo for the generated pictures, minimal for some sixty photographs; options given "
                       "besides override it")
    group.add_argument("--seeds", type=int, default=1, metavar="N", help="run both twins with N seeds, from --seed on, "
                       "to see how far runs differ by themselves [1]")
    group.add_argument("--train_ap", action="store_true", help="measure AP and loss on all training pictures too; "
                       f"otherwise on --eval_train of them [{EVAL_TRAIN}]")
    group.add_argument("--runs", nargs="+", metavar="FOLDER", help="train nothing, compare these folders of finished "
                       "runs, one of each framework for each seed")


def run(args: argparse.Namespace) -> int:
    folder = getattr(args, "output_dir", "")
    if not folder:
        raise DetrError("there is no folder for the results.", "Pass --output_dir.")
    folder = Path(folder)
    if args.runs:
        check_nothing_else(args)
        pairs, conditions = paired([read_run(path) for path in args.runs]), {}
    else:
        config, splits = prepare(args)
        conditions = find_conditions(splits)
        keep_conditions(folder / "runs" / "conditions.json", conditions)
        seeds = [config.run.seed + i for i in range(args.seeds)]
        with StopRequest() as stop:
            if status := run_twins(config, seeds, folder, stop):
                return status
        pairs = read_pairs(folder, seeds)
    comparison = Comparison.of(pairs, command_of(args), conditions)
    write_comparison(folder, comparison)
    print(f"\n{comparison.text()}\n\nAll of it is in {folder / 'comparison.html'}.")
    return 0


def prepare(args: argparse.Namespace) -> tuple[Config, dict[str, CocoIndex]]:
    """The settings of the runs, and the dataset's splits. Errors: DetrError."""
    options = given(args)
    if strange := [name for name in NOT_HERE if name in options]:
        raise DetrError(f"--{strange[0]} has no place in a comparison.", "Leave it out.")
    if args.preset and args.config:
        raise DetrError("--preset and --config are both given.", "Give one of them.")
    if args.seeds < 1:
        raise DetrError(f"--seeds {args.seeds} is less than 1.", "Give 1 or more.")
    base = read_config(args.config) if args.config else Config()
    if args.preset:
        base = PRESETS[options.get("decoder", "detr")][args.preset]
    config = base.replace(eval_train=base.run.eval_train or EVAL_TRAIN).replace(**options)
    check(config)
    splits = dict(zip(("train", "val"), open_splits(config.data, config.model.masks)))
    if args.train_ap:
        config = config.replace(eval_train=len(splits["train"]))
    return resolve(config, splits["train"], Start()), splits


def read_pairs(folder: Path, seeds: list[int]) -> Pairs:
    return paired([read_run(run_folder(folder, seed, framework)) for seed in seeds for framework in FRAMEWORKS])


def check_nothing_else(args: argparse.Namespace) -> None:
    """Errors: DetrError for an option that would train otherwise, where nothing is trained."""
    besides = [name for name in given(args) if name != "output_dir"]
    besides += [name for name in ("preset", "config", "train_ap") if getattr(args, name)] + ["seeds"] * (args.seeds > 1)
    if besides:
        raise DetrError(f"--runs trains nothing, so --{besides[0]} has no effect.", "Leave it out.")


def command_of(args: argparse.Namespace) -> str:
    """The command line that was given, in a fixed order."""
    words = ["detr-jittor", "compare"]
    own = {name: getattr(args, name) for name in ("runs", "preset", "config", "train_ap")} | {
        "seeds": args.seeds if args.seeds > 1 else None}
    for name, value in (own | given(args)).items():
        if value is True:
            words.append(f"--{name}")
        elif isinstance(value, list):
            words += [f"--{name}", *value]
        elif value not in (None, False):
            words += [f"--{name}", str(value)]
    return shlex.join(words)
