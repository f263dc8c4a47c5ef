"""`detr-jittor convert`: a checkpoint in another format."""

import argparse
from pathlib import Path

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.keymap_transformers import to_transformers
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.engine.start import opened
from detr_jittor.errors import DetrError
from detr_jittor.types import State

HELP = "write a checkpoint in another format: .pkl, .pth or .safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="checkpoint to read, of either framework")
    parser.add_argument("target", metavar="OUT", help="file to write; its suffix names the format")
    parser.add_argument("--keys", choices=("reference", "transformers"), default="reference",
                        help="names of the weights: the reference code's and ours, or those of the transformers "
                             "library, which takes the weights alone [%(default)s]")


def run(args: argparse.Namespace) -> int:
    args.source, checkpoint = opened(args.source)
    if checkpoint.note:
        print(f"{args.source}: {checkpoint.note}.")
    if args.keys == "transformers":
        if not args.target.endswith(".safetensors"):
            raise DetrError(f"{args.target}: the transformers library's files end in .safetensors.", "Name it so.")
        checkpoint = renamed(args.source, checkpoint)
    store.save(args.target, checkpoint)
    moments = f" and AdamW's state after {checkpoint.state.steps} steps" if checkpoint.state.optimizer else ""
    print(f"{args.target}: {len(checkpoint.state.model)} arrays{moments}, "
          f"{Path(args.target).stat().st_size / 1e6:.1f} MB")
    return 0


def renamed(source: str, checkpoint: Checkpoint) -> Checkpoint:
    """The weights alone, under the transformers library's names. Errors: DetrError if it has no place for them."""
    try:
        return Checkpoint(State(to_transformers(checkpoint.state.averaged), {}))
    except DetrError as error:
        raise DetrError(f"{source}: {error.what}", error.fix) from None
