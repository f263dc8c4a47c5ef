"""`detr-jittor dataset check|show|convert|subset|demo`: look at a dataset, write it in another layout, cut a smaller
one out of it, make one."""

import argparse
from pathlib import Path

import numpy as np

from detr_jittor.cli import dataset_check as check
from detr_jittor.cli.dataset_check import summary
from detr_jittor.config.options import Config, DataConfig
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.findings import findings
from detr_jittor.data.splits import open_all, open_split
from detr_jittor.engine.dataset import tell_remarks
from detr_jittor.errors import DetrError, writing
from detr_jittor.twin.seeding import generator

HELP = "check, show, convert or cut down a dataset, or generate the demo set"
SPLITS = ("train", "val")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="check|show|convert|subset|demo", required=True)

    checked = commands.add_parser("check", help="tell every fault, and what a detector suffers from")
    checked.add_argument("--masks", action="store_true", help="check the segmentations too")
    checked.add_argument("--pictures", action="store_true", help="decode every picture too")
    checked.add_argument("--quick", action="store_true", help="do not look for pictures that were saved anew, for "
                         "which every picture is decoded")
    checked.add_argument("--json", action="store_true", help="print everything as one JSON object")
    checked.add_argument("--strict", action="store_true", help="exit with status 2 for a finding or a remark too")
    data = Config().data
    for name, default, what in (("num_queries", Config().model.num_queries, "queries of the model"),
                                ("min_size", data.min_size, "short side of the pictures"),
                                ("max_size", data.max_size, "longest side of the pictures")):
        checked.add_argument(f"--{name}", type=int, default=default, help=f"{what}, as in training [{default}]")

    show = commands.add_parser("show", help="write a sheet of pictures with their boxes, or a page about all splits")
    show.add_argument("--output", required=True, metavar="FILE", help="picture, or .html file, to write")
    show.add_argument("--split", choices=SPLITS, default="train", help="[train]")
    show.add_argument("--images", type=int, default=16, metavar="N", help="number of pictures [16]")

    convert = commands.add_parser("convert", help="write a dataset in another layout")
    convert.add_argument("coco_path", metavar="IN", help="dataset, as `detr-jittor train` takes it")
    convert.add_argument("output_dir", metavar="OUT", help="folder to write")
    convert.add_argument("--to", required=True, choices=("coco", "yolo", "voc"), help="layout")
    convert.add_argument("--masks", action="store_true", help="with outlines")
    convert.add_argument("--copy", action="store_true", help="copy the pictures, not link them")

    subset = commands.add_parser("subset", help="write a smaller dataset in which as many classes as possible appear")
    subset.add_argument("--output_dir", required=True, metavar="D", help="folder to write")
    subset.add_argument("--images", type=int, required=True, metavar="N", help="number of pictures for training")
    subset.add_argument("--val_images", type=int, metavar="N", help="number of pictures for validation [as many]")
    subset.add_argument("--copy", action="store_true", help="copy the pictures, not link them")

    demo = commands.add_parser("demo", help="generate the demo set")
    demo.add_argument("--output_dir", required=True, metavar="D", help="folder to write")
    demo.add_argument("--train", type=int, default=800, metavar="N", help="pictures for training [800]")
    demo.add_argument("--val", type=int, default=200, metavar="N", help="pictures for validation [200]")
    demo.add_argument("--size", type=int, default=128, metavar="PIXELS", help="side of the pictures [128]")

    for command in (checked, show, subset):
        command.add_argument("--data", "--coco_path", dest="coco_path", required=True, metavar="P",
                             help="dataset, as `detr-jittor train` takes it")
    for command in (show, subset, demo):
        command.add_argument("--seed", type=int, default=0, help="seed of what is chosen or drawn [0]")


def run(args: argparse.Namespace) -> int:
    if getattr(args, "seed", 0) < 0:
        raise DetrError(f"--seed {args.seed} cannot be.", "Give a number from 0.")
    return {"check": check.run, "show": show, "convert": convert, "subset": subset, "demo": demo}[args.what](args)


def show(args: argparse.Namespace) -> int:
    from detr_jittor.data.show import contact_sheet  # it draws with matplotlib's fonts, which take a while to load

    if args.images < 1:
        raise DetrError(f"--images {args.images}: a sheet needs a picture.", "Ask for at least one.")
    if Path(args.output).suffix.lower() in (".html", ".htm"):
        return show_page(args)
    index = open_split(data_of(args), args.split)
    places = chosen(index, args)
    try:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(index, places).save(args.output)
    except (OSError, ValueError) as error:  # ValueError: a suffix that names no format
        raise DetrError(f"{args.output}: cannot be written ({error}).", "Name a .png, .jpg or .html file.") from None
    print(f"{args.output}: {len(places)} of {len(index)} pictures")
    return 0


def chosen(index: CocoIndex, args: argparse.Namespace) -> np.ndarray:
    """The places of some pictures at random."""
    return np.sort(generator(args.seed).permutation(len(index))[:args.images])


def show_page(args: argparse.Namespace) -> int:
    from detr_jittor.data import show

    splits, data, model = open_all(data_of(args)), Config().data, Config().model
    found = findings(splits, data.min_size, data.max_size, model.num_queries)
    odd = [f"{split}: {remark}" for split, index in splits.items() for remark in index.remarks] + list(map(str, found))
    places = {split: chosen(index, args) for split, index in splits.items()}
    with writing(f"{args.output}:", "Name another file."):
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output).write_text(show.show_page(Path(args.coco_path).resolve().name, splits, places, odd), "utf-8",
                                     "backslashreplace")
    print(f"{args.output}: {' and '.join(f'{len(places[s])} of {len(i)} pictures of {s}' for s, i in splits.items())}")
    return 0


def convert(args: argparse.Namespace) -> int:
    from detr_jittor.data.convert import convert

    splits, lost = convert(data_of(args), args.output_dir, args.to, args.masks, args.copy)
    tell_remarks(*splits.values())
    for what in lost:
        print(f"lost: {what}")
    print(f"{args.output_dir}: {', '.join(f'{len(index)} pictures for {split}' for split, index in splits.items())}")
    return 0


def subset(args: argparse.Namespace) -> int:
    from detr_jittor.data.subset import write_subset

    val = args.images if args.val_images is None else args.val_images
    for index in write_subset(data_of(args), args.output_dir, args.images, val, args.seed, args.copy).values():
        print(summary(index))
    return 0


def demo(args: argparse.Namespace) -> int:
    write_demo_set(args.output_dir, args.train, args.val, args.size, args.seed)
    print(f"{args.output_dir}: {args.train} pictures for training, {args.val} for validation")
    return 0


def data_of(args: argparse.Namespace) -> DataConfig:
    return Config().replace(coco_path=args.coco_path).data
