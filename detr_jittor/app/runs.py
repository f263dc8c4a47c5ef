"""Training runs in a folder, as the page shows them side by side: what their logs say, and their latest pictures."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from detr_jittor.config.options import Config
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log

DEPTH = 3  # folders below the one that is watched
PICTURES = 2  # of each run, the newest


@dataclass(frozen=True)
class Run:
    name: str
    records: list[dict]  # of log.txt, one an epoch
    is_going_on: bool
    images_a_step: int
    pictures: list[Path]  # the newest first

    def curves(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """{"loss", "ap", "lr" or "speed": {name of a curve: [(epoch, value)]}}"""
        return {
            "loss": {f"{self.name} train": self.points("train_loss"), f"{self.name} test": self.points("test_loss")},
            "ap": {self.name: self.points("test_coco_eval_bbox")},
            "lr": {self.name: self.points("train_lr")},
            "speed": {self.name: [(epoch, self.images_a_step / seconds)
                                  for epoch, seconds in self.points("train_step_time") if seconds > 0]},
        }

    def points(self, key: str) -> list[tuple[int, float]]:
        """(epoch, value) of each record that has it; of a list the first."""
        found = [(r.get("epoch"), r[key][0] if isinstance(r[key], list) and r[key] else r[key])
                 for r in self.records if key in r]
        return [(epoch, float(value)) for epoch, value in found
                if isinstance(epoch, int) and isinstance(value, (int, float)) and value == value]

    def state(self) -> list[str]:
        """A row: name, whether it goes on, last epoch, last loss, last and best AP, images a second."""
        last = {kind: points[-1][1] if points else None for kind, curves in self.curves().items()
                for points in [next(iter(curves.values()))]}
        best = max((value for _, value in self.points("test_coco_eval_bbox")), default=None)
        numbers = [("{:.3f}", last["loss"]), ("{:.3f}", last["ap"]), ("{:.3f}", best), ("{:.2g}", last["lr"]),
                   ("{:.1f}", last["speed"])]
        epoch = self.records[-1].get("epoch", "") if self.records else ""
        return [self.name, "●" if self.is_going_on else "", str(epoch),
                *("" if value is None else form.format(value) for form, value in numbers)]


def runs_in(folder: Path) -> list[Run]:
    """The runs in a folder and in those below it, by name. One without an epoch so far has no records yet."""
    held = held_locks()
    found = []
    for place in [folder, *folders_below(folder, DEPTH)]:
        going_on = identity(place / ".lock") in held
        if (place / "log.txt").is_file() or going_on:
            name = folder.absolute().name if place == folder else place.relative_to(folder).as_posix()
            found.append(read_run(place, name, going_on))
    return found


def read_run(place: Path, name: str, going_on: bool) -> Run:
    records, images = [], 1
    with contextlib.suppress(DetrError):  # nothing so far, or a line that is being written
        records = read_log(place / "log.txt")
    with contextlib.suppress(DetrError, OSError, ValueError):
        config = Config.from_json((place / "config.json").read_text(encoding="utf-8"))
        images = config.optim.batch_size * config.optim.accumulate * config.run.world_size
    with contextlib.suppress(OSError):
        pictures = sorted(place.glob("*.jpg"), key=lambda f: f.stat().st_mtime, reverse=True)[:PICTURES]
        return Run(name, records, going_on, images, pictures)
    return Run(name, records, going_on, images, [])


def folders_below(folder: Path, depth: int) -> list[Path]:
    """Those in which runs can be, by name; what cannot be opened, hidden folders and links are left out."""
    if depth == 0:
        return []
    try:
        inside = sorted(f for f in folder.iterdir() if f.is_dir() and not f.is_symlink() and f.name[0] != ".")
    except OSError:
        return []
    return [f for place in inside for f in (place, *folders_below(place, depth - 1))]


def held_locks() -> set[tuple[int, int]]:
    """(device, inode) of the files that some process has locked. Linux tells; taking a lock to see whether it is free
    would stop a run that begins at this moment."""
    held = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            with contextlib.suppress(ValueError, IndexError):
                major, minor, inode = line.split()[-3].split(":")
                held.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return held


def identity(file: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        stat = file.stat()
        return stat.st_dev, stat.st_ino
    return None
