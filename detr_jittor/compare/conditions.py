"""What runs must share besides their settings: the data, the machine, the versions."""

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path

from detr_jittor.data.coco import CocoIndex
from detr_jittor.errors import DetrError
from detr_jittor.report.digest import digest
from detr_jittor.report.log import make_folder, write_whole
from detr_jittor.twin import processor, threads

PACKAGES = ("detr-jittor", "jittor", "torch", "numpy", "scipy", "Pillow", "faster-coco-eval")


def find_conditions(splits: dict[str, CocoIndex]) -> dict:
    """{"data": …, "machine": …}: what a reader needs to repeat the runs elsewhere.

    Args: splits: "train" and "val" → index.
    """
    data = {split: {"pictures": len(index), "objects": len(index.objects),
                    "annotations_sha256": digest_of(index)}
            for split, index in splits.items()}
    return {"data": data, "machine": {
        "cpu": processor.name(), "instructions": processor.instruction_set(),
        "cores": len(os.sched_getaffinity(0)), "threads": threads.count(),
        "system": platform.platform(terse=True), "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES}}}


def digest_of(index: CocoIndex) -> str:
    """SHA-256 of the annotation file, or of the objects where they come from many files."""
    if index.file.suffix == ".json" and index.file.is_file():
        return digest(index.file)
    truth = index.ground_truth()
    return hashlib.sha256(json.dumps([truth["annotations"], truth["categories"]]).encode()).hexdigest()


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def keep_conditions(path: Path, now: dict) -> None:
    """Write the conditions of the runs, or if there are some, see that they still hold.

    Errors: DetrError if runs were begun under other conditions, naming what differs.
    """
    if path.exists():
        then = json.loads(path.read_text(encoding="utf-8"))
        changed = [f"{name} {was} and {now[group].get(name)}" for group in then for name, was in then[group].items()
                   if was != now[group].get(name)]
        if changed:
            raise DetrError(f"{path.parent} holds runs made under other conditions: {'; '.join(changed)}.",
                            "Choose another --output_dir.")
    make_folder(path.parent)
    write_whole(path, json.dumps(now, indent=2))
