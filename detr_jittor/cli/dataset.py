"""`detr-jittor dataset check|show|subset|demo`: look at a dataset, cut a smaller one out of it, make one."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from detr_jittor.config.options import Config, DataConfig
from detr_jittor.config.small import advice
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import orientation_told, unused
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.faults import DatasetError
from detr_jittor.data.splits import alike, open_split
from detr_jittor.errors import DetrError, visible
from detr_jittor.twin.seeding import generator

HELP = "check, show or cut down a dataset, or generate the demo set"
SPLITS = ("train", "val")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="check|show|subset|demo", required=True)

    check = commands.add_parser("check", help="validate annotations and tell every fault")
    check.add_argument("--masks", action="store_true", help="check the segmentations too")
    check.add_argument("--pictures", action="store_true", help="decode every picture too")

    show = commands.add_parser("show", help="write a sheet of pictures with their boxes")
    show.add_argument("--output", required=True, metavar="FILE", help="picture file to write")
    show.add_argument("--split", choices=SPLITS, default="train", help="[train]")
    show.add_argument("--images", type=int, default=16, metavar="N", help="number of pictures [16]")

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

    for command in (check, show, subset):
        command.add_argument("--data", "--coco_path", dest="coco_path", required=True, metavar="P",
                             help="dataset, as `detr-jittor train` takes it")
    for command in (show, subset, demo):
        command.add_argument("--seed", type=int, default=0, help="seed of what is chosen or drawn [0]")


def run(args: argparse.Namespace) -> int:
    if getattr(args, "seed", 0) < 0:
        raise DetrError(f"--seed {args.seed} cannot be.", "Give a number from 0.")
    return {"check": check, "show": show, "subset": subset, "demo": demo}[args.what](args)


def check(args: argparse.Namespace) -> int:
    """Tell everything about both splits: their faults one a line, or their counts and remarks."""
    data, indexes, status = data_of(args), [], 0
    for split in SPLITS:
        try:
            indexes.append(open_split(data, split, args.masks))
        except DatasetError as error:
            print(f"{error.file}: {len(error.faults)} faults", file=sys.stderr)
            print(*(f"  {visible(str(fault))}" for fault in error.faults), sep="\n", file=sys.stderr)
            status = 2
        except DetrError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    for index in indexes:
        print(summary(index))
        if args.pictures and not check_pictures(index):
            status = 2
    if len(indexes) == len(SPLITS):
        alike(*indexes)
        print(f"  {advice(indexes[0].contents())}")
    return status


def check_pictures(index: CocoIndex) -> bool:
    """Decode every picture, tell those that cannot be used, and count those of which a part is not. Returns: whether
    all can."""
    from detr_jittor.data.batch import read_sample

    damaged, remarks = 0, Counter()
    for place, image in enumerate(index.images):
        try:
            read_sample(image, index.annotations(place))
            remarks.update(unused(image.path) + orientation_told(image.path, (image.height, image.width)))
        except DetrError as error:
            damaged += 1
            print(f"  {error}", file=sys.stderr)
    print(f"  {len(index) - damaged} of {len(index)} pictures can be read")
    for what, count in remarks.items():
        print(f"  remark: {count} of them have {what}")
    return damaged == 0


def summary(index: CocoIndex) -> str:
    """Counts and remarks of a dataset, several lines."""
    objects = index.objects
    counts = np.bincount(objects.labels, minlength=index.classes.num_classes)[list(index.classes.labels)]
    per_picture = np.array([len(index.annotations(place)) for place in range(len(index))])
    empty = [name for name, count in zip(index.classes.names, counts) if not count]
    lines = [
        f"{index.name}: {len(index)} pictures ({(per_picture == 0).sum()} without objects), {len(objects)} objects, "
        f"{len(index.classes.names)} classes ({len(empty)} without objects), {objects.iscrowd.sum()} crowds",
        f"  at most {per_picture.max()} objects in a picture; num_classes {index.classes.num_classes}",
        *(f"  remark: {visible(remark)}" for remark in index.remarks),
    ]
    most = np.argsort(-counts, kind="stable")[:10]
    lines.append("  most frequent: " + ", ".join(f"{visible(index.classes.names[i])} {counts[i]}"
                                                 for i in most if counts[i]))
    return "\n".join(lines)


def show(args: argparse.Namespace) -> int:
    from detr_jittor.data.show import contact_sheet  # it draws with matplotlib's fonts, which take a while to load

    if args.images < 1:
        raise DetrError(f"--images {args.images}: a sheet needs a picture.", "Ask for at least one.")
    index = open_split(data_of(args), args.split)
    places = np.sort(generator(args.seed).permutation(len(index))[:args.images])
    try:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(index, places).save(args.output)
    except (OSError, ValueError) as error:  # ValueError: a suffix that names no format
        raise DetrError(f"{args.output}: cannot be written ({error}).", "Name a .png or .jpg file.") from None
    print(f"{args.output}: {len(places)} of {len(index)} pictures")
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
