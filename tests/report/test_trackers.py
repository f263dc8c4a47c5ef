"""What trackers are told, and that none of them can end a run."""

import signal
import sys
import time

import pytest

from detr_jittor.errors import DetrError
from detr_jittor.report import trackers
from detr_jittor.report.log import RunLog
from detr_jittor.report.trackers import CLASSES, Trackers

SETTINGS = {"lr": 1e-4, "backbone": "resnet18", "masks": False, "num_classes": None}
RECORD = {"epoch": 0, "train_loss": 1.5, "test_coco_eval_bbox": [0.5, 0.25], "note": "no number"}


class Told:
    """A tracker that remembers, and fails where it is asked to."""

    fails_at, told = "", []

    def __init__(self, folder, settings, identity):
        self.do("open", folder.name, settings, identity)
        self.identity = identity or "first"

    def do(self, what, *rest):
        self.told.append((what, *rest))
        if what == self.fails_at:
            raise RuntimeError("no answer\nfrom the server")

    def add(self, kind, number, values):
        self.do("add", kind, number, values)

    def close(self):
        self.do("close")


@pytest.fixture
def told(monkeypatch) -> list:
    monkeypatch.setitem(CLASSES, "wandb", Told)
    monkeypatch.setattr(Told, "told", [])
    return Told.told


def test_a_run_tells_its_steps_and_epochs(told, tmp_path):
    log = RunLog(tmp_path, 0, ["wandb"], SETTINGS)
    for step in (49, 50):
        log.step(step, {"loss": 2.0})
    log.epoch(RECORD, None)
    log.close()
    assert told == [("open", tmp_path.name, SETTINGS, ""), ("add", "step", 50, {"loss": 2.0}),
                    ("add", "epoch", 0, {"epoch": 0, "train_loss": 1.5, "test_coco_eval_bbox/0": 0.5,
                                         "test_coco_eval_bbox/1": 0.25}), ("close",)]
    assert not (tmp_path / "tensorboard").exists()


def test_a_run_that_goes_on_is_the_same_one(told, tmp_path):
    for goes_on, identity in ((False, ""), (True, "first"), (False, "")):
        Trackers(["wandb"], tmp_path, SETTINGS, goes_on).close()
        assert told[-2] == ("open", tmp_path.name, SETTINGS, identity)
    (tmp_path / "trackers.json").write_text("[[[")
    Trackers(["wandb"], tmp_path, SETTINGS, True).close()
    assert told[-2][-1] == ""


@pytest.mark.parametrize("where, calls", [("open", 1), ("add", 2), ("close", 4)])
def test_a_tracker_that_fails_is_left_out(told, tmp_path, monkeypatch, capsys, where, calls):
    monkeypatch.setattr(Told, "fails_at", where)
    log = RunLog(tmp_path, 0, ["wandb", "tensorboard"], SETTINGS)
    log.step(50, {"loss": 2.0})
    log.epoch(RECORD, "[val] epoch=  0 AP=0.1")
    log.close()
    assert len(told) == calls
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: --track wandb fails") and "(no answer)" in line
    assert (tmp_path / "log.txt").read_text().count("\n") == 1
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"epoch/train_loss" in events.read_bytes()


def test_even_one_that_wants_to_leave(told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Told, "add", lambda *_: sys.exit(3))
    log = RunLog(tmp_path, 0, ["wandb"], SETTINGS)
    log.step(50, {"loss": 2.0})
    assert "--track wandb fails" in capsys.readouterr().err


def test_signals_stay_the_runs_own(told, tmp_path, monkeypatch):
    def takes(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.excepthook = print
        self.identity = ""

    monkeypatch.setattr(Told, "__init__", takes)
    before = signal.getsignal(signal.SIGINT), sys.excepthook
    Trackers(["wandb"], tmp_path, SETTINGS, False)
    assert (signal.getsignal(signal.SIGINT), sys.excepthook) == before


@pytest.mark.parametrize("name", ["swanlab", "wandb", "mlflow"])
def test_a_missing_package_is_told_before_the_run(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DetrError, match=rf'--track {name} needs the package {name} .*"detr-jittor\[track\]"'):
        Trackers(["tensorboard", name], tmp_path, SETTINGS, False)


@pytest.mark.slow
@pytest.mark.parametrize("name, files", [("swanlab", "swanlab/*/*.swanlab"), ("wandb", "wandb/offline-run-*/*.wandb")])
def test_offline(tmp_path, monkeypatch, capfd, name, files):
    """The real ones, with nothing to reach: what a run tells lies in a file that can be sent later."""
    monkeypatch.setenv(f"{name.upper()}_MODE", "offline")
    log = RunLog(tmp_path, 0, [name], SETTINGS)
    assert log.trackers.open[name].identity
    log.step(50, {"loss": 2.0})
    log.epoch(RECORD, None)
    log.close()
    assert "fails" not in capfd.readouterr().err
    (file,) = tmp_path.glob(files)
    end = time.monotonic() + 60  # a process of the tracker's own writes it
    while b"epoch/train_loss" not in (content := file.read_bytes()) and time.monotonic() < end:
        time.sleep(0.1)
    assert b"epoch/train_loss" in content and b"step/loss" in content


@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    """In a database in the run's folder, and the same run when it goes on."""
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for epoch in (0, 1):
        log = RunLog(tmp_path, epoch, ["mlflow"], SETTINGS, goes_on=epoch > 0)
        log.epoch({**RECORD, "epoch": epoch}, None)
        identity = log.trackers.open["mlflow"].identity
        log.close()
    (run,) = mlflow.search_runs(experiment_names=[trackers.PROJECT], output_format="list")
    assert run.info.run_id == identity and run.data.params["backbone"] == "resnet18"
    history = mlflow.MlflowClient().get_metric_history(identity, "epoch/test_coco_eval_bbox/0")
    assert [(point.step, point.value) for point in history] == [(0, 0.5), (1, 0.5)]
