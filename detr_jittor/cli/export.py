"""`detr-jittor export`: a checkpoint of either framework as an ONNX file."""

import argparse
from pathlib import Path

from detr_jittor.checkpoint.architecture import told
from detr_jittor.engine.start import opened
from detr_jittor.errors import DetrError
from detr_jittor.predict.export import export, package
from detr_jittor.predict.predictor import Predictor, settings

HELP = "write a checkpoint as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="CKPT", help="checkpoint of either framework")
    parser.add_argument("target", metavar="OUT", help="file to write, which ends in .onnx")
    parser.add_argument("--config", metavar="FILE", help="config.json, for a checkpoint that holds none")


def run(args: argparse.Namespace) -> int:
    target = Path(args.target)
    if target.suffix != ".onnx":
        raise DetrError(f"{target}: is not the name of an ONNX file.", "Give one that ends in .onnx.")
    for name in ("detr_jittor.pt.export", "onnx", "onnxruntime"):
        package(name)
    args.source, checkpoint = opened(args.source)
    for sentence in () if args.config else told(checkpoint, args.source):
        print(sentence)
    config = settings(checkpoint, args.source, args.config).replace(framework="pytorch", device="cpu")
    difference = export(Predictor(checkpoint, config, args.source), target)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, for pictures of any number and size; ONNX Runtime's "
          f"outputs are within {difference:.0e} of PyTorch's")
    return 0
