"""`detr-jittor dataset check`: every fault of a dataset, and what a detector suffers from."""

import argparse
import json
import sys
from collections import Counter

import numpy as np

from detr_jittor.config.options import Config
from detr_jittor.config.small import advice
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import orientation_told, unused
from detr_jittor.data.faults import DatasetError
from detr_jittor.data.findings import Finding, findings
from detr_jittor.data.same_pictures import Grids, grid_of_picture
from detr_jittor.data.splits import alike, each_split
from detr_jittor.engine.dataset import found_line
from detr_jittor.errors import DetrError, visible


def run(args: argparse.Namespace) -> int:
    """Returns: the exit status, 2 for a fault, and with --strict for a finding too."""
    for name in ("num_queries", "min_size", "max_size"):
        if getattr(args, name) < 1:
            raise DetrError(f"--{name} {getattr(args, name)} is less than 1.", "Give a positive number.")
    report = checked(args)
    if args.json:
        print(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
    else:
        report.tell()
    return 2 if report.errors or report.damaged or (args.strict and (report.findings or report.remarks)) else 0


class Report:
    """What was found.

    Attributes:
        splits: {split: index} of those that can be read.
        errors: of those that cannot, and of splits that do not fit each other.
        damaged: pictures that cannot be read, with the reason, where they were decoded.
        notes: {split: what is said of its pictures, where they were decoded}.
    """

    def __init__(self):
        self.splits: dict[str, CocoIndex] = {}
        self.errors: list[DetrError] = []
        self.damaged: list[str] = []
        self.notes: dict[str, list[str]] = {}
        self.findings: list[Finding] = []

    @property
    def remarks(self) -> list[str]:
        return [remark for index in self.splits.values() for remark in index.remarks]

    @property
    def advice(self) -> str:
        return advice(self.splits["train"].contents()) if "train" in self.splits else ""

    def tell(self) -> None:
        if len(self.splits) == 2 and not self.errors:
            print(found_line(list(self.splits.values())))
        for error in self.errors:
            if isinstance(error, DatasetError):
                print(f"{error.file}: {len(error.faults)} faults", file=sys.stderr)
                print(*(f"  {visible(str(fault))}" for fault in error.faults), sep="\n", file=sys.stderr)
            else:
                print(f"error: {error}", file=sys.stderr)
        for reason in self.damaged:
            print(f"  {reason}", file=sys.stderr)
        for split, index in self.splits.items():
            print(summary(index))
            for note in self.notes.get(split, ()):
                print(f"  {note}")
        for finding in self.findings:
            print(visible(f"finding: {finding}"))
        if self.advice and not self.errors:
            print(f"  {self.advice}")

    def to_json(self) -> dict:
        return {"found": next((index.found for index in self.splits.values()), ""),
                "splits": {split: counts(index) for split, index in self.splits.items()},
                "faults": [{"file": error.file, "record": fault.record, "what": fault.what, "fix": fault.fix}
                           for error in self.errors if isinstance(error, DatasetError) for fault in error.faults],
                "errors": [str(error) for error in self.errors], "damaged": self.damaged, "notes": self.notes,
                "findings": [finding.to_json() for finding in self.findings], "advice": self.advice}


def checked(args: argparse.Namespace) -> Report:
    report = Report()
    for split, index in each_split(Config().replace(coco_path=args.coco_path).data, args.masks):
        if isinstance(index, DetrError):
            report.errors.append(index)
        else:
            report.splits[split] = index
    if len(report.splits) == 2:
        try:
            report.splits["val"] = alike(report.splits["train"], report.splits["val"])
        except DetrError as error:
            report.errors.append(error)
    grids: Grids = {}
    for split, index in report.splits.items() if args.pictures else ():
        report.notes[split] = check_pictures(split, index, report.damaged, grids)
    report.findings = findings(report.splits, args.min_size, args.max_size, args.num_queries, not args.quick, grids)
    return report


def check_pictures(split: str, index: CocoIndex, damaged: list[str], grids: Grids) -> list[str]:
    """Decode every picture, note those that cannot be used, and count those of which a part is not.

    Args: damaged, grids: to which is added what is noted, and by what pictures that are saved anew are found.
    """
    from detr_jittor.data.batch import read_sample

    remarks, before = Counter(), len(damaged)
    for place, image in enumerate(index.images):
        try:
            picture = read_sample(image, index.annotations(place)).image
            turned = orientation_told(image.path, (image.height, image.width))
            remarks.update(unused(image.path) + turned)
            if not turned:  # else it may not be upright here
                grids[split, place] = grid_of_picture(picture)
        except DetrError as error:
            damaged.append(str(error))
    bad = len(damaged) - before
    return [f"{len(index) - bad} of {len(index)} pictures can be read",
            *(f"remark: {count} of them have {what}" for what, count in remarks.items())]


def counts(index: CocoIndex) -> dict:
    """What a split holds, in numbers."""
    objects = index.objects
    of_class = np.bincount(objects.labels, minlength=index.classes.num_classes)
    per_picture = np.bincount(index.owner, minlength=len(index))
    return {"name": index.name, "file": str(index.file), "pictures": len(index),
            "without_objects": int((per_picture == 0).sum()), "objects": len(objects),
            "crowds": int(objects.iscrowd.sum()), "most_in_a_picture": int(per_picture.max(initial=0)),
            "num_classes": index.classes.num_classes, "remarks": index.remarks,
            "classes": [{"name": name, "objects": int(of_class[label])}
                        for name, label in zip(index.classes.names, index.classes.labels)]}


def summary(index: CocoIndex) -> str:
    """Counts and remarks of a dataset, several lines."""
    c = counts(index)
    empty = sum(not row["objects"] for row in c["classes"])
    most = sorted((row for row in c["classes"] if row["objects"]), key=lambda row: -row["objects"])[:10]
    return "\n".join([
        f"{index.name}: {c['pictures']} pictures ({c['without_objects']} without objects), {c['objects']} objects, "
        f"{len(c['classes'])} classes ({empty} without objects), {c['crowds']} crowds",
        f"  at most {c['most_in_a_picture']} objects in a picture; num_classes {c['num_classes']}",
        *(f"  remark: {visible(remark)}" for remark in index.remarks),
        "  most frequent: " + ", ".join(f"{visible(row['name'])} {row['objects']}" for row in most)])
