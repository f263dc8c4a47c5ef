"""`detr-jittor convert`: a checkpoint in another format."""

import argparse
from pathlib import Path

from detr_jittor.checkpoint import store

HELP = "write a checkpoint in another format: .pkl, .pth or .safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="checkpoint to read, of either framework")
    parser.add_argument("target", metavar="OUT", help="file to write; its suffix names the format")


def run(args: argparse.Namespace) -> int:
    checkpoint = store.load(args.source)
    if checkpoint.note:
        print(f"{args.source}: {checkpoint.note}.")
    store.save(args.target, checkpoint)
    moments = f" and AdamW's state after {checkpoint.state.steps} steps" if checkpoint.state.optimizer else ""
    print(f"{args.target}: {len(checkpoint.state.model)} arrays{moments}, "
          f"{Path(args.target).stat().st_size / 1e6:.1f} MB")
    return 0
