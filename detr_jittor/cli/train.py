"""`detr-jittor train`, and `python main.py`: train, and with --eval evaluate."""

import argparse

from detr_jittor.cli import evaluate
from detr_jittor.cli.options import add_config_arguments, config_and_start, config_of
from detr_jittor.config.presets import PRESETS
from detr_jittor.engine.rehearsal import rehearse
from detr_jittor.engine.settings import preset
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError

HELP = "train on a COCO dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument("--preset", choices=("small", *PRESETS["box"]), help="settings that learn from a few hundred "
                        "pictures from scratch: small, chosen by what the dataset holds, demo, those of the generated "
                        "pictures, or minimal, which learns sixty photographs by heart; options that are given "
                        "besides override them")
    parser.add_argument("--check", action="store_true", help="look whether the run can work, in a minute or so, and "
                        "end: the data is read, one batch learned by heart, a checkpoint written and read, the "
                        "truth measured as AP 1; nothing is written")


def run(args: argparse.Namespace) -> int:
    if getattr(args, "eval", False):
        return evaluate.run(args)
    if args.preset:
        take_preset(args)
    config, start = config_and_start(args)
    return rehearse(config, start) if args.check else train(config, start)


def take_preset(args: argparse.Namespace) -> None:
    """Put the preset's settings beside those that the user gave. Errors: DetrError if it cannot be had."""
    if args.config:
        raise DetrError("--preset and --config are both given.", "Give one of them.")
    for name, value in preset(args.preset, config_of(args), getattr(args, "decoder", "box")).items():
        if not hasattr(args, name):
            setattr(args, name, value)
