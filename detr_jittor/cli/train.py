"""`detr-jittor train`, and `python main.py`: train, and with --eval evaluate."""

import argparse

from detr_jittor.cli import evaluate
from detr_jittor.cli.options import add_config_arguments, config_and_start
from detr_jittor.engine.train import train

HELP = "train on a COCO dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if getattr(args, "eval", False):
        return evaluate.run(args)
    config, start = config_and_start(args)
    return train(config, start)
