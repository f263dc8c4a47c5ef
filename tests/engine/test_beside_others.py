"""What a process does where there are others, which are played here: quick, and for what two real ones do not show.

The real ones are in test_processes.py.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy_twin import NumpyTwin
from small import NUM_CLASSES, SMALL, small_batch, small_state

from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.config.options import Config
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.reporting import Reporting
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import load_twin
from detr_jittor.report import progress
from detr_jittor.twin import seeding
from detr_jittor.twin.parameters import NORM_BUFFERS
from detr_jittor.twin.processes import Processes, together

TWINS = pytest.mark.parametrize("framework", ["jittor", "pytorch"])


class WithAnIdleOne(Processes):
    """Process 0 of two. All that the other one has is zero: objects, losses, gradients, statistics."""

    size = 2

    def gather(self, value) -> list:
        return [value, value * 0]

    def average(self, tensors: list) -> list:
        return [tensor / 2 for tensor in tensors]


class WithATwin(Processes):
    """Process `rank` of two; the other one has the same, but in some steps no pictures."""

    size = 2

    def __init__(self, rank: int, empty: tuple[int, ...] = ()):
        self.rank, self.empty, self.steps = rank, empty, 0

    def gather(self, value) -> list:
        other = value
        if isinstance(value, tuple) and isinstance(value[-1], bool):  # whether to go on with a step
            other = value if self.steps not in self.empty else (*value[:-1], False)
            self.steps += 1
        return [value, other]


class WithAStranger(Processes):
    """Process 0 of two; what the other one says is nothing that this one would."""

    size = 2

    def gather(self, value) -> list:
        return [value, None]


def step(framework: str, processes: Processes, batch, **options):
    twin = load_twin(framework)(SMALL.replace(dropout=0.0, **options), NUM_CLASSES, processes)
    twin.load(small_state(twin))
    return twin.train_step(batch, 5, 1.0), twin.state().model


@TWINS
@pytest.mark.parametrize("objects", [None, 1, 0], ids=["objects", "one object", "no objects"])
def test_the_losses_are_those_of_all_pictures(framework, objects):
    """Divided by what all have, also where that is less than one object a process: as if there were one process."""
    batch = small_batch(3)
    for target, few in zip(batch.targets, (objects, 0)):
        if objects is not None:
            target.labels, target.boxes = target.labels[:few], target.boxes[:few]
    alone, _ = step(framework, Processes(), batch)
    both, _ = step(framework, WithAnIdleOne(), batch)
    for name in ("loss", "loss_ce", "loss_bbox", "loss_giou", "loss_bbox_0", "grad_norm"):
        assert both[name] == pytest.approx(alone[name], rel=2e-5), name
    assert (alone["loss_bbox"] > 0) == (objects != 0)


@TWINS
def test_running_statistics_are_averaged(framework):
    alone, both = (step(framework, processes, small_batch(3), backbone_norm="batch")[1]
                   for processes in (Processes(), WithAnIdleOne()))
    running = [name for name in alone if name.endswith(NORM_BUFFERS)]
    assert running
    for name in running:
        np.testing.assert_allclose(both[name], alone[name] / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("framework, variable, told", [
    ("jittor", "WORLD_SIZE", "torchrun starts the PyTorch twin"),
    ("pytorch", "OMPI_COMM_WORLD_SIZE", "mpirun starts the Jittor twin")])
def test_the_other_twins_launcher(monkeypatch, framework, variable, told):
    """Without this, each process would train for itself, and all would write to one folder."""
    monkeypatch.setenv(variable, "2")
    with pytest.raises(DetrError, match=told):
        load_twin(framework).join(Config().run)


@pytest.fixture
def started(config, monkeypatch):
    """A function that starts a run as one of two processes; it returns what the steps' dropout masks are made of."""
    def ends(status):
        pytest.fail(f"the process ended with {status}")

    def start(processes: Processes, **options) -> list[int]:
        seen, train_step = [], NumpyTwin.train_step
        monkeypatch.setattr("os._exit", ends)
        monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0)
        monkeypatch.setattr(NumpyTwin, "join", staticmethod(lambda run: processes))
        with monkeypatch.context() as m:
            m.setattr(NumpyTwin, "train_step",
                      lambda self, batch, seed, factor: seen.append(seed) or train_step(self, batch, seed, factor))
            train(config.replace(epochs=2, **options))
        return seen

    return start


def test_each_process_has_dropout_masks_of_its_own(started, config, tmp_path):
    seen = [started(WithATwin(rank), output_dir=str(tmp_path / str(rank))) for rank in (0, 1)]
    for rank in (0, 1):  # two steps an epoch
        assert seen[rank] == [seeding.step_seed(config.run.seed, number, rank) for number in range(4)]
    assert len({*seen[0], *seen[1]}) == 8


def test_all_leave_when_all_are_done():
    told = []

    class Telling(WithATwin):
        def gather(self, value) -> list:
            told.append("gather")
            return super().gather(value)

        def leave(self) -> None:
            told.append("leave")

    with together(Telling(0)):
        told.append("work")
    assert told == ["work", "gather", "leave"]


LEAVING = """
import torch.distributed
from torch.distributed.elastic.utils.distributed import get_free_port
from detr_jittor.config.options import Config
from detr_jittor.pt.processes import Together

alone = Together(Config().replace(dist_url=f"tcp://127.0.0.1:{get_free_port()}").run)
print(alone.gather(3), torch.distributed.is_initialized())
alone.leave()
print(torch.distributed.is_initialized())
"""


def test_who_has_left_torchs_group_has_none_of_its_threads():
    """One in ten processes that had not was aborted at its exit, with its work done."""
    done = subprocess.run([sys.executable, "-c", LEAVING], env=os.environ | {"RANK": "0", "WORLD_SIZE": "1"},
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n") == ["[3] True", "False", ""], done.stderr[-2000:]


@pytest.mark.parametrize("size, printed", [("2", ["done"]), ("1", ["done", "an exit of a library's"])])
def test_one_of_torchruns_processes_ends_without_its_libraries(size, printed):
    code = """if True:
        import atexit
        from detr_jittor.cli.commands import end
        atexit.register(print, "an exit of a library's")
        print("done")
        end(7)"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"WORLD_SIZE": size}, capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (7, printed), done.stderr


def test_who_fails_alone_does_not_wait_at_its_exit():
    """A library that waits for the other processes when Python ends, as MPI does, is not asked to."""
    code = """if True:
        import atexit
        from detr_jittor.errors import DetrError
        from detr_jittor.twin.processes import Processes, together
        class Second(Processes):
            size, rank = 2, 1
        atexit.register(print, "a library waits for the others")
        with together(Second()):
            raise DetrError("alone")"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: process 1: alone\n")


@pytest.mark.parametrize("rank", [0, 1])
def test_process_0_prints_and_writes(started, capsys, tmp_path, rank):
    started(WithATwin(rank), output_dir=str(tmp_path / "out"))
    out, err = capsys.readouterr()
    told = (bool(out), "epoch 0" in err, "evaluation" in err, (tmp_path / "out" / "checkpoint.pkl").exists())
    assert told == (rank == 0,) * 4, (out, err)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_step_for_which_the_other_has_no_pictures_is_left_out(started, config, monkeypatch, tmp_path, rank):
    """Told by the exchange alone, in the process that has some: it must not wait for the other one's gradients."""
    monkeypatch.setattr(Reporting, "draw_curves", lambda self: None)
    seen = started(WithATwin(rank, empty=(1,)), output_dir=str(tmp_path / "out"))
    assert seen == [seeding.step_seed(config.run.seed, number, rank) for number in (0, 2, 3)]


@pytest.mark.parametrize("fault", ["a loss that is no number", "too many bad pictures"])
def test_none_leaves_a_shared_fault_before_process_0_has_saved(config, coco, monkeypatch, fault):
    """The last exchange, after which all leave, is after the save of the only step that was done."""
    done, gather, save, train_step = [], WithATwin.gather, RunFolder.save, NumpyTwin.train_step

    def step_before(self, *arguments):
        if fault == "too many bad pictures":
            for picture in (coco / "train2017").iterdir():
                picture.write_bytes(b"")
        return train_step(self, *arguments)

    monkeypatch.setattr(WithATwin, "gather", lambda self, value: done.append(value) or gather(self, value))
    monkeypatch.setattr(RunFolder, "save", lambda self, checkpoint: done.append(checkpoint) or save(self, checkpoint))
    monkeypatch.setattr(NumpyTwin, "join", staticmethod(lambda run: WithATwin(0)))
    monkeypatch.setattr(NumpyTwin, "nan_at", 1)
    monkeypatch.setattr(NumpyTwin, "train_step", step_before)
    monkeypatch.setattr("os._exit", sys.exit)
    with pytest.raises(SystemExit, match="2"):
        train(config.replace(max_bad_images=0))
    assert done[-2].step == 1 and done[-1] is None


def test_an_evaluation_of_other_weights_is_refused(config, monkeypatch, capsys):
    """Before the first picture, as training does it."""
    train(config.replace(epochs=1))
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(NumpyTwin, "join", staticmethod(lambda run: WithAStranger()))
    monkeypatch.setattr(NumpyTwin, "evaluate", lambda self, batch: pytest.fail("evaluated"))
    with pytest.raises(SystemExit, match="2"):
        evaluate(config.replace(resume="auto"))
    assert "process 1 starts from other weights or another dataset than process 0" in capsys.readouterr().err
