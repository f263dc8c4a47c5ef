"""`detr-jittor train`, and `python main.py`: train, and with --eval evaluate."""

import argparse

from detr_jittor import engine
from detr_jittor.cli import evaluate
from detr_jittor.cli.options import add_config_arguments, config_and_checkpoint

HELP = "train on a COCO dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if getattr(args, "eval", False):
        return evaluate.run(args)
    config, found = config_and_checkpoint(args)
    return engine.train(config, found)
