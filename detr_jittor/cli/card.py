"""`detr-jittor card`: a checkpoint as the folder that Hugging Face and ModelScope take."""

import argparse
from pathlib import Path

from detr_jittor.checkpoint.architecture import classes_of, num_classes, told
from detr_jittor.checkpoint.card import write_card
from detr_jittor.engine.start import opened
from detr_jittor.errors import DetrError
from detr_jittor.predict.predictor import settings, unnamed_classes

HELP = "write a checkpoint as a folder for Hugging Face and ModelScope, with a README"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="CKPT", help="checkpoint of either framework, or a published model's name")
    parser.add_argument("--output_dir", required=True, metavar="D", help="folder to write")
    parser.add_argument("--title", metavar="T", help="headline of the README (default: the folder's name)")
    parser.add_argument("--license", default="", metavar="L", help="licence of the weights, as both sites name it, "
                        "such as apache-2.0 (default: none is named)")
    parser.add_argument("--config", metavar="FILE", help="config.json, for a checkpoint that holds none")


def run(args: argparse.Namespace) -> int:
    source, checkpoint = opened(args.source)
    for sentence in () if args.config else told(checkpoint, source):
        print(sentence)
    config, count = settings(checkpoint, source, args.config), num_classes(checkpoint)
    if count is None:
        raise DetrError(f"{source}: holds no weights of a DETR.", "Pass a checkpoint that a training run wrote.")
    folder = Path(args.output_dir)
    theirs = write_card(checkpoint, config, classes_of(checkpoint) or unnamed_classes(count), folder,
                        args.title or folder.absolute().name, args.license)
    print(f"{folder}: README.md, config.json, model.safetensors and SHA256SUMS"
          + ("; the transformers library reads it too" if theirs else ""))
    return 0
