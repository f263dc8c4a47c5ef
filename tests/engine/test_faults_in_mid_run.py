"""What goes wrong in mid-run, with the disk, the pictures or a worker: the run says so, and what it saved is good."""

import contextlib
import errno
import os
import shutil
import signal
from pathlib import Path

import pytest
from numpy_twin import NumpyTwin

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.folder import newest
from detr_jittor.data import pool
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError
from detr_jittor.report.progress import Progress
from detr_jittor.report.scalars import ScalarWriter

# What is not noticed would be waited for without end.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture
def at_step(monkeypatch):
    """Call something once in the middle of a step: `at_step(7, lambda: …)`."""
    def install(step: int, what) -> None:
        own, due = NumpyTwin.train_step, [what]

        def train_step(self, *arguments):
            if self.steps == step and due:
                due.pop()()
            return own(self, *arguments)

        monkeypatch.setattr(NumpyTwin, "train_step", train_step)

    return install


@pytest.fixture
def workers(monkeypatch):
    """The worker processes that a run starts."""
    started, start = [], pool.start_worker

    def start_worker():
        started.append(start())
        return started[-1]

    monkeypatch.setattr(pool, "start_worker", start_worker)
    return started


def test_a_worker_is_killed(config, at_step, workers):
    at_step(7, lambda: [os.kill(worker.process.pid, signal.SIGKILL) for worker in workers[:2]])
    with pytest.raises(DetrError, match=r"killed by signal 9; it was to read .*\.png"):
        train(config.replace(num_workers=2))
    saved = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    assert saved.step >= 8 and all(worker.process.poll() is not None for worker in workers)


def test_a_worker_hangs(config, coco, at_step, workers, monkeypatch):
    """On a disk that does not answer, which a pipe that nobody writes to is like."""
    pools, own = [], pool.Pool.__init__

    def remembered(self, count):
        own(self, count)
        pools.append(self)

    monkeypatch.setattr(pool.Pool, "__init__", remembered)

    def hang():
        for each in pools:  # not earlier: on a busy machine it takes as long to start
            each.patience = 3
        for picture in (coco / "train2017").iterdir():
            picture.unlink()
            os.mkfifo(picture)

    at_step(7, hang)
    with pytest.raises(DetrError, match=r"has not answered for 3 s; it reads .*\.png"):
        train(config.replace(num_workers=2))
    assert store.load(Path(config.run.output_dir) / "checkpoint.pkl").step >= 8
    assert all(worker.process.poll() is not None for worker in workers)


def test_a_hang_is_noticed_within_a_minute():
    assert pool.PATIENCE <= 60


@pytest.mark.parametrize("number", [0, 2])
def test_the_pictures_are_unmounted(config, coco, at_step, capsys, number):
    at_step(7, lambda: (coco / "train2017").rename(coco / "away"))
    with pytest.raises(DetrError, match=r"[34] pictures could not be read, the last: .*No such file or directory"):
        train(config.replace(num_workers=number, max_bad_images=2))
    saved = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    assert saved.step >= 8
    (coco / "away").rename(coco / "train2017")
    assert train(config.replace(resume="auto")) == 0


@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_the_output_folder_vanishes(config, at_step, capsys, becomes, tmp_path):
    out = Path(config.run.output_dir)

    def vanish():
        shutil.move(out, tmp_path / "moved")
        if becomes == "a file":
            out.write_text("")

    at_step(7, vanish)
    with pytest.raises(DetrError, match="the log cannot be written"):
        train(config.replace(save_every_steps=2))
    assert "warning:" in capsys.readouterr().err
    file, checkpoint = newest(tmp_path / "moved")
    assert checkpoint.step == 6
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
    assert train(config.replace(resume=str(file))) == 0


@pytest.mark.parametrize("code, but, told", [
    (errno.EROFS, (), r"the log cannot be written \(Read-only file system\)"),
    (errno.EACCES, ("log.txt", "eval_summary.txt"), r"could not be written \(Permission denied\)")],
    ids=["disk", "folder"])
def test_the_output_folder_becomes_read_only(config, at_step, read_only, capsys, code, but, told):
    """The disk, as after a fault of its own; or the folder, whose old files can still be written."""
    out = Path(config.run.output_dir)
    with contextlib.ExitStack() as stack:
        at_step(7, lambda: stack.enter_context(read_only(out, code, but)))
        with pytest.raises(DetrError, match=told):
            train(config)
    assert f"warning: {out / 'checkpoint.pkl'}: the checkpoint could not be written" in capsys.readouterr().err
    assert store.load(out / "checkpoint.pkl").step == 5
    assert train(config.replace(resume="auto")) == 0 and store.load(out / "checkpoint.pkl").step == 20


def test_the_disk_has_no_room_for_tensorboard(config, at_step, monkeypatch, capsys):
    """It is said once, and the run goes on: what could not be written is not written again."""
    own = ScalarWriter.write

    def full(self, event):
        self.file = open("/dev/full", "wb")  # noqa: SIM115
        own(self, event)

    at_step(7, lambda: monkeypatch.setattr(ScalarWriter, "write", full))
    assert train(config) == 0
    told = capsys.readouterr().err
    assert told.count("--track tensorboard fails") == 1 and "No space left on device" in told
    assert store.load(Path(config.run.output_dir) / "checkpoint.pkl").step == 20


def test_what_cannot_be_said(config, at_step, monkeypatch):
    """A progress line that goes to a full disk: the error is told as it is, and what was learned is saved."""
    def update(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    at_step(7, lambda: monkeypatch.setattr(Progress, "update", update))
    with pytest.raises(OSError, match="No space left"):
        train(config)
    assert store.load(Path(config.run.output_dir) / "checkpoint.pkl").step == 8


REPLACE = os.replace


def full(source, target) -> None:
    """os.replace on a disk without room for checkpoints."""
    if Path(target).suffix == ".pkl":
        raise OSError(28, "No space left on device")
    REPLACE(source, target)


def test_the_disk_stays_full(config, at_step, monkeypatch):
    """The end of the run is not saved, which is an error; and no old checkpoint gets a new one's name."""
    at_step(12, lambda: monkeypatch.setattr(os, "replace", full))
    with pytest.raises(DetrError, match=r"could not be written \(No space left on device\)"):
        train(config)
    out = Path(config.run.output_dir)
    assert store.load(out / "checkpoint.pkl").step == 10 and not (out / "checkpoint0003.pkl").exists()


def test_the_disk_fills_and_has_room_again(config, at_step, monkeypatch, capsys):
    """The run goes on without a checkpoint, says so, and saves again when it can; nothing of the half files stays."""
    at_step(6, lambda: monkeypatch.setattr(os, "replace", full))
    at_step(12, lambda: monkeypatch.setattr(os, "replace", REPLACE))
    assert train(config.replace(save_every_steps=2)) == 0
    out = Path(config.run.output_dir)
    assert "could not be written (No space left on device)" in capsys.readouterr().err
    assert store.load(out / "checkpoint.pkl").step == 20 and not list(out.glob(".*.writing"))
