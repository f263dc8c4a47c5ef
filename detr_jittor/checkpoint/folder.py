"""The folder of a training run: one run at a time, its checkpoints by name, and what an earlier run left there."""

import fcntl
import os
import sys
from pathlib import Path

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.errors import DetrError

SUFFIXES = (".pkl", ".pth")
# What a new run would overwrite, besides the checkpoints of its own framework.
RESULTS = ("log.txt", "eval_summary.txt", "config.json", "eval.json", "tensorboard", "panoptic_eval",
           "training_loss_comparison.png", "performance_comparison.png")


class RunFolder:
    """The checkpoints of a run: the last two, the best, and the numbered ones.

    `checkpoint`, `checkpoint_previous`, `best` and `checkpoint0099` are names of files that are never changed in
    place, so one file may have several of them.
    """

    def __init__(self, path: str | Path, suffix: str):
        """Make the folder and take it for this process, until `close` or the end of the process.

        Errors: DetrError if it cannot be written, or if another process has it.
        """
        self.path, self.suffix = Path(path), suffix
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a")  # noqa: SIM115 - open for as long as the run lasts
        except OSError as error:
            raise DetrError(f"{path}: cannot be written ({error.strerror}).", "Choose another --output_dir.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise DetrError(f"{path}: another run is writing there.",
                            "Wait for its end, or choose another --output_dir.") from None
        for left in self.path.glob(".*.writing"):  # a run was killed while it wrote
            left.unlink()

    def close(self) -> None:
        self._lock.close()

    def file(self, name: str) -> Path:
        return self.path / f"{name}{self.suffix}"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `checkpoint`; what it was becomes `checkpoint_previous`. Errors: DetrError."""
        store.save(self.file("checkpoint"), checkpoint, previous=self.file("checkpoint_previous"))

    def also_as(self, name: str) -> None:
        """Give `checkpoint` another name besides, e.g. best. Errors: DetrError."""
        try:
            store.link(self.file("checkpoint"), self.file(name))
        except OSError as error:
            raise DetrError(f"{self.file(name)}: cannot be written ({error.strerror}).", "Make room.") from None

    def holds(self, file: str | Path) -> bool:
        """Whether a file lies in this folder."""
        return Path(file).resolve().parent == self.path.resolve()

    def set_aside(self) -> Path | None:
        """Move what an earlier run left, and this one would overwrite, into a folder of its own. Returns: it."""
        mine = [*RESULTS, *(f.name for name in ("checkpoint*", "best") for f in self.path.glob(name + self.suffix))]
        found = [self.path / name for name in mine if (self.path / name).exists()]
        if not found:
            return None
        number = 1
        while (folder := self.path / f"earlier-{number}").exists():
            number += 1
        folder.mkdir()
        for file in found:
            os.replace(file, folder / file.name)
        return folder


def newest(path: str | Path) -> tuple[Path, Checkpoint] | None:
    """The newest good checkpoint of a run's folder, of either framework; None where there is none at all.

    One that cannot be read is named on stderr, and the one before it taken.

    Errors: DetrError if there are some, but none can be read.
    """
    names = [Path(path) / f"{name}{suffix}" for name in ("checkpoint", "checkpoint_previous") for suffix in SUFFIXES]
    files = sorted((file for file in names if file.is_file()), key=lambda file: -file.stat().st_mtime_ns)
    for file in files:
        try:
            return file, store.load(file)
        except DetrError as error:
            print(f"warning: {error}", file=sys.stderr)
    if files:
        raise DetrError(f"{path}: none of its {len(files)} checkpoints can be read.", "Start anew without --resume.")
    return None
