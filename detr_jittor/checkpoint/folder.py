"""The folder of a training run: one run at a time, its checkpoints by name, and what an earlier run left there."""

import contextlib
import fcntl
import os
import sys
import tempfile
from pathlib import Path

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.errors import DetrError, writing

SUFFIXES = (".pkl", ".pth")
# What a new run would overwrite, besides checkpoints.
RESULTS = ("log.txt", "eval_summary.txt", "config.json", "eval.json", "tensorboard", "trackers.json", "panoptic_eval",
           "mistakes", "train_batch.jpg", "val_best.jpg", "training_loss_comparison.png", "performance_comparison.png")


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
        with writing(f"{path}:"):
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()  # the lock of an earlier run may be all that can be written
            self._lock = open(self.path / ".lock", "a")  # noqa: SIM115 - open for as long as the run lasts
            if self.is_alone():
                for left in self.path.glob(".*.writing"):  # a run was killed while it wrote
                    left.unlink()

    def is_alone(self) -> bool:
        """Take the lock. Returns: false where there are no locks. Errors: DetrError if another process has it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise DetrError(f"{self.path}: another run is writing there.",
                            "Wait for its end, or choose another --output_dir.") from None
        except OSError as error:  # some network disks have none
            print(f"warning: {self.path}: cannot be locked ({error.strerror}); see that no other run writes there.",
                  file=sys.stderr)
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # processes that were forked meanwhile have it open too
        self._lock.close()

    def file(self, name: str) -> Path:
        return self.path / f"{name}{self.suffix}"

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `checkpoint`; what it was becomes `checkpoint_previous`. Errors: DetrError."""
        store.save(self.file("checkpoint"), checkpoint, previous=self.file("checkpoint_previous"))

    def also_as(self, name: str) -> None:
        """Give `checkpoint` another name besides, e.g. best. Errors: DetrError."""
        with writing(f"{self.file(name)}:"):
            store.link(self.file("checkpoint"), self.file(name))

    def holds(self, file: str | Path) -> bool:
        """Whether a file lies in this folder."""
        return Path(file).resolve().parent == self.path.resolve()

    def set_aside(self) -> Path | None:
        """Move what an earlier run of either framework left into a folder of its own. Returns: it. Errors: DetrError.

        So that all checkpoints here are of one run, and the one with most steps is its newest.
        """
        mine = [*RESULTS, *(f.name for name in ("checkpoint*", "best") for suffix in SUFFIXES
                            for f in self.path.glob(name + suffix))]
        found = [self.path / name for name in mine if (self.path / name).exists()]
        if not found:
            return None
        number = 1
        while (folder := self.path / f"earlier-{number}").exists():
            number += 1
        with writing(f"{folder}:"):
            folder.mkdir()
            for file in found:
                os.replace(file, folder / file.name)
        return folder


def newest(path: str | Path) -> tuple[Path, Checkpoint] | None:
    """The newest good checkpoint of a run's folder, of either framework; None where there is none at all.

    By what the files hold: their times are lost in some copies. Those that cannot be read are named on stderr, and the
    one before taken; if that cannot be read either, the best or the newest with a number.

    Errors: DetrError if there are some, but none can be read.
    """
    folder = Path(path)
    last = [[folder / f"checkpoint{suffix}", folder / f"checkpoint_previous{suffix}"] for suffix in SUFFIXES]
    named = [files for suffix in SUFFIXES for files in (
        [folder / f"best{suffix}"], sorted(folder.glob(f"checkpoint[0-9]*{suffix}"), reverse=True))]
    for choices in (last, named):
        found = [good for files in choices if (good := first_good(files))]
        if found:
            return max(found, key=lambda good: (good[1].epoch, good[1].step))
    if any(os.path.isfile(file) for files in last + named for file in files):
        raise DetrError(f"{path}: none of its checkpoints can be read.", "Start anew without --resume.")
    return None


def first_good(files: list[Path]) -> tuple[Path, Checkpoint] | None:
    """The first that can be read, and its content."""
    for file in files:
        if os.path.isfile(file):
            try:
                return file, store.load(file)
            except DetrError as error:
                print(f"warning: {error}", file=sys.stderr)
    return None
