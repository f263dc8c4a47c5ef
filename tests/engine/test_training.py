"""The training loop with a NumPy twin: what it writes, how it resumes, how it stops."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy_twin import DRAW_CURVES, NumpyTwin

from detr_jittor.checkpoint import store
from detr_jittor.config.options import Config, read_config
from detr_jittor.engine.averages import logged
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.reporting import Reporting
from detr_jittor.engine.train import train
from detr_jittor.engine.watch import Watch
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log
from detr_jittor.twin import seeding
from detr_jittor.twin.loss_terms import loss_weights

TIMES = ("seconds", "time", "memory")
pytestmark = pytest.mark.timeout(60)  # a run that has lost its place would never end


def timeless(log: list[dict]) -> list[dict]:
    """A log without what no two runs share. NaN equals itself in hex."""
    return [{k: v.hex() if isinstance(v, float) else v for k, v in record.items() if not any(t in k for t in TIMES)}
            for record in log]


def same_run(one: Path, other: Path) -> None:
    """Two runs ended alike: weights, moments and every logged number, bit for bit."""
    a, b = store.load(one / "checkpoint.pkl"), store.load(other / "checkpoint.pkl")
    for field in ("epoch", "step", "best_ap", "batches", "classes"):
        assert getattr(a, field) == getattr(b, field), field
    assert a.state.steps == b.state.steps
    for name in a.state.model:
        assert a.state.model[name].tobytes() == b.state.model[name].tobytes(), name
    for name, moments in a.state.optimizer.items():
        assert all(x.tobytes() == y.tobytes() for x, y in zip(moments, b.state.optimizer[name])), name
    assert timeless(read_log(one / "log.txt")) == timeless(read_log(other / "log.txt"))
    assert (one / "eval_summary.txt").read_text() == (other / "eval_summary.txt").read_text()


def test_what_a_run_leaves(config, capsys, monkeypatch):
    monkeypatch.setattr(Reporting, "draw_curves", DRAW_CURVES)
    assert train(config) == 0
    out = Path(config.run.output_dir)
    log = read_log(out / "log.txt")
    assert [record["epoch"] for record in log] == [0, 1, 2, 3]
    reference = {f"{split}_{name}" for split in ("train", "test") for name in (
        "class_error", "loss", "loss_ce", "loss_bbox", "loss_giou", "loss_ce_0", "loss_ce_unscaled",
        "loss_bbox_unscaled", "loss_giou_unscaled", "class_error_unscaled", "cardinality_error_unscaled",
        "loss_ce_0_unscaled")} | {"train_lr", "test_coco_eval_bbox", "epoch", "n_parameters"}
    ours = {*(f"{split}_{name}" for split in ("train", "test") for name in ("class_error_by_object", "objects")),
            "train_grad_norm", "step", "train_data_time", "train_step_time", "train_seconds", "test_seconds",
            "peak_memory_mb"}
    assert all(record.keys() == reference | ours for record in log)
    assert all(len(record["test_coco_eval_bbox"]) == 12 for record in log)
    assert log[0]["train_loss_bbox"] == 2.5 and log[0]["train_loss_bbox_unscaled"] == 0.5
    assert [record["step"] for record in log] == [5, 10, 15, 20]
    assert log[0]["train_lr"] == pytest.approx(0.1 * (1 / 3 + 2 / 3 + 3) / 5)
    assert log[3]["train_lr"] == pytest.approx(0.01)
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    assert log[0]["n_parameters"] == 5 * 3 + 5 + 3 and log[0]["peak_memory_mb"] > 10
    summaries = (out / "eval_summary.txt").read_text().splitlines()
    assert len(summaries) == 4
    assert re.fullmatch(r"\[val\] epoch=  3 AP=0\.\d{4} \| AP50=0\.\d{4} \| AP75=0\.\d{4}", summaries[3])
    assert {p.name for p in out.iterdir()} == {
        ".lock", "log.txt", "eval_summary.txt", "config.json", "tensorboard", "checkpoint.pkl",
        "checkpoint_previous.pkl", "best.pkl", "checkpoint0001.pkl", "checkpoint0003.pkl",
        "training_loss_comparison.png", "performance_comparison.png", "train_batch.jpg", "val_best.jpg", "mistakes"}
    assert any((out / "tensorboard").iterdir())
    assert store.load(out / "checkpoint0001.pkl").epoch == 1 and store.load(out / "checkpoint.pkl").epoch == 3
    best = store.load(out / "best.pkl")
    assert best.best_ap == max(record["test_coco_eval_bbox"][0] for record in log) > 0
    assert log[best.epoch]["test_coco_eval_bbox"][0] == best.best_ap
    assert "AP=" in capsys.readouterr().out


def test_the_settings_are_resolved_and_kept(config):
    train(config.replace(epochs=1))
    written = read_config(Path(config.run.output_dir) / "config.json")
    assert written == config.replace(epochs=1, backbone_norm="batch", num_classes=4)
    checkpoint = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    assert checkpoint.config == written and checkpoint.classes.names == ("red", "green", "blue")


def test_without_an_output_folder_nothing_is_written(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert train(config.replace(output_dir="", epochs=1)) == 0
    assert set(tmp_path.rglob("*")) == before


def test_evaluation_gives_the_ap_of_the_run(config):
    train(config)
    out = Path(config.run.output_dir)
    last = read_log(out / "log.txt")[-1]["test_coco_eval_bbox"]
    for file in ("checkpoint.pkl", "checkpoint_previous.pkl"):
        assert evaluate(config.replace(resume=str(out / file))).bbox.stats == last


@pytest.mark.parametrize("stop_after", [1, 5, 7, 10, 19])
def test_resume_is_exact_at_every_step(config, tmp_path, stop_after):
    """Stopped by --max_steps inside and at the end of epochs, then resumed in the same folder."""
    parts = config.replace(output_dir=str(tmp_path / "parts"))
    train(config.replace(output_dir=str(tmp_path / "whole")))
    train(parts.replace(max_steps=stop_after))
    assert store.load(tmp_path / "parts" / "checkpoint.pkl").step == stop_after
    train(parts.replace(resume="auto"))
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_resume_in_another_folder_and_format(config, tmp_path):
    """Also through a .pth: the same weights, moments and place."""
    train(config.replace(output_dir=str(tmp_path / "whole")))
    train(config.replace(output_dir=str(tmp_path / "first"), max_steps=8))
    store.save(tmp_path / "moved.pth", store.load(tmp_path / "first" / "checkpoint.pkl"))
    train(config.replace(output_dir=str(tmp_path / "second"), resume=str(tmp_path / "moved.pth")))
    one, other = (store.load(tmp_path / name / "checkpoint.pkl") for name in ("whole", "second"))
    assert all(one.state.model[n].tobytes() == other.state.model[n].tobytes() for n in one.state.model)
    assert [r["epoch"] for r in read_log(tmp_path / "second" / "log.txt")] == [1, 2, 3]


@pytest.mark.parametrize("before, after, steps", [
    ({"batch_size": 2}, {"batch_size": 3}, [5, 10, 13, 16]), ({"batch_size": 4}, {"batch_size": 5}, [2, 5, 7, 9]),
    ({"seed": 1}, {"seed": 2}, [5, 12, 17, 22]), ({}, {"coco_path": "less"}, [5, 11, 15, 19])])
def test_other_batches_start_the_epoch_anew(config, coco, tmp_path, capsys, before, after, steps):
    """Of another size (also where an epoch has as many), of another order, of another dataset."""
    shutil.copytree(coco, tmp_path / "less")
    file = tmp_path / "less" / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    gone = content["images"].pop()["id"], content["images"].pop()["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in gone]
    file.write_text(json.dumps(content))
    if "coco_path" in after:
        after = {"coco_path": str(tmp_path / "less")}
    train(config.replace(**before, max_steps=steps[0] + steps[0] // 2))
    train(config.replace(**after, resume="auto"))
    assert "epoch 1 starts anew" in capsys.readouterr().out
    assert [r["step"] for r in read_log(Path(config.run.output_dir) / "log.txt")] == steps


def command(config: Config, *options: str) -> list[str]:
    c = config.flat()
    names = ("coco_path", "output_dir", "epochs", "lr_drop", "lr", "lr_backbone", "warmup_steps", "batch_size",
             "min_size", "max_size", "num_workers", "backbone_weights")
    return [sys.executable, str(Path(__file__).parent / "numpy_twin.py"), "train",
            *(x for name in names for x in (f"--{name}", str(c[name]))), *options]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_is_exact(config, tmp_path, workers):
    """SIGKILL in mid-epoch, twice, with a checkpoint every two steps; then to the end."""
    train(config.replace(output_dir=str(tmp_path / "whole")))
    parts = config.replace(output_dir=str(tmp_path / "parts"), num_workers=workers)
    for at in (4, 13):
        killed = subprocess.run(command(parts, "--resume", "auto", "--save_every_steps", "2"), capture_output=True,
                                text=True, env={**os.environ, "SIGNAL": f"{signal.SIGKILL:d}@{at}"}, timeout=60)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert store.load(tmp_path / "parts" / "checkpoint.pkl").step in (at - 1, at)
    assert subprocess.run(command(parts, "--resume", "auto"), capture_output=True, timeout=60).returncode == 0
    same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_finishes_the_step_and_saves(config, tmp_path, number, status, every):
    """In an epoch that is to be evaluated, which saves besides, and in one that is not."""
    config = config.replace(eval_every=every)
    train(config.replace(output_dir=str(tmp_path / "whole")))
    parts, rhythm = config.replace(output_dir=str(tmp_path / "parts")), ("--eval_every", str(every))
    stopped = subprocess.run(command(parts, *rhythm), capture_output=True, text=True, timeout=60,
                             env={**os.environ, "SIGNAL": f"{number:d}@7"})
    assert stopped.returncode == status, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert store.load(tmp_path / "parts" / "checkpoint.pkl").step == 8
    resumed = subprocess.run(command(parts, *rhythm, "--resume", "auto"), capture_output=True, timeout=60)
    assert resumed.returncode == 0
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_signal_in_an_evaluation_leaves_it_out(config, tmp_path, monkeypatch):
    """Half an evaluation is no result: nothing of it is logged, and the resumed run evaluates the whole."""
    train(config.replace(output_dir=str(tmp_path / "whole")))
    parts, own, batches = config.replace(output_dir=str(tmp_path / "parts")), NumpyTwin.evaluate, []

    def evaluate(self, batch):
        batches.append(batch)
        if len(batches) == 3:  # the first of two of the second evaluation
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, batch)

    monkeypatch.setattr(NumpyTwin, "evaluate", evaluate)
    monkeypatch.setattr(Watch, "before_step", lambda self, batch: None)  # which evaluates too
    monkeypatch.setattr(Watch, "after_step", lambda self, step, lr_factor: None)
    assert train(parts) == 143 and len(batches) == 3
    assert [record["epoch"] for record in read_log(tmp_path / "parts" / "log.txt")] == [0]
    assert train(parts.replace(resume="auto")) == 0
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_after_a_run_the_signals_are_the_callers_again(config):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(config.replace(epochs=1))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(config, second):
    """Of either kind: whoever loses patience with a stop by the scheduler presses Ctrl-C."""
    process = subprocess.Popen(command(config), env={**os.environ, "STEP_SECONDS": "30"}, stdout=subprocess.DEVNULL)
    log = Path(config.run.output_dir) / "config.json"
    for _ in range(200):  # until the first step is about to run
        if log.exists():
            break
        time.sleep(0.1)
    time.sleep(0.5)
    try:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None  # it finishes its step
        process.send_signal(second)
        assert process.wait(timeout=5) == -second
    finally:
        process.kill()
        process.wait()


def test_a_loss_that_is_not_finite_names_the_pictures(config, monkeypatch):
    monkeypatch.setattr(NumpyTwin, "nan_at", 7)
    with pytest.raises(DetrError, match=r"step 7: the loss is nan, with .*train2017/\d+\.png, .*train2017/\d+\.png\."):
        train(config)
    assert store.load(Path(config.run.output_dir) / "checkpoint.pkl").step == 7  # all that was learned is there


def test_nothing_left_to_train(config, capsys):
    train(config.replace(epochs=1))
    assert train(config.replace(epochs=1, resume="auto")) == 0
    assert "Nothing left to train" in capsys.readouterr().out
    assert len(read_log(Path(config.run.output_dir) / "log.txt")) == 1


def test_pictures_that_cannot_be_read(config, coco, capsys):
    for number in (3, 5):
        (coco / "train2017" / f"{number}.png").write_bytes(b"<html>")
    assert train(config.replace(epochs=2, max_bad_images=2)) == 0
    errors = capsys.readouterr().err
    assert errors.count("left out:") == 2 and "3.png" in errors and "2 pictures could not be read" in errors
    with pytest.raises(DetrError, match=r"2 pictures could not be read, the last: .*--max_bad_images"):
        train(config.replace(max_bad_images=1))


def test_validation_pictures_that_cannot_be_read(config, coco, capsys, monkeypatch):
    """They count like the others, and a batch without any picture is not evaluated."""
    sizes, own = [], NumpyTwin.evaluate
    monkeypatch.setattr(NumpyTwin, "evaluate", lambda self, batch: sizes.append(len(batch)) or own(self, batch))
    monkeypatch.setattr(Watch, "before_step", lambda self, batch: None)  # which evaluates too
    monkeypatch.setattr(Watch, "after_step", lambda self, step, lr_factor: None)
    for number in (101, 102):
        (coco / "val2017" / f"{number}.png").write_bytes(b"")
    assert train(config.replace(epochs=1, max_bad_images=2)) == 0 and sizes == [2]
    errors = capsys.readouterr().err
    assert errors.count("left out:") == 2 and "101.png" in errors and "2 pictures could not be read" in errors
    with pytest.raises(DetrError, match=r"2 pictures could not be read, the last: .*102\.png"):
        train(config.replace(epochs=1, max_bad_images=1))


def test_a_whole_batch_that_cannot_be_read(config, coco):
    for file in (coco / "train2017").iterdir():
        if file.stem != "4":
            file.write_bytes(b"")
    assert train(config.replace(epochs=1, max_bad_images=10)) == 0
    assert read_log(Path(config.run.output_dir) / "log.txt")[0]["step"] == 5


def test_cuda_without_a_gpu_says_so(config, capsys):
    assert train(config.replace(device="cuda", epochs=1)) == 0
    assert "no GPU that numpy can use here; it goes on with the cpu" in capsys.readouterr().err


def test_weights_of_other_classes(config, coco):
    train(config.replace(epochs=1))
    resume = str(Path(config.run.output_dir) / "checkpoint.pkl")
    for split in ("train", "val"):
        file = coco / "annotations" / f"instances_{split}2017.json"
        data = json.loads(file.read_text())
        data["categories"].append({"id": 7, "name": "black"})
        file.write_text(json.dumps(data))
    with pytest.raises(DetrError, match=r"trained on other classes than instances_val2017, whose category 7 \(black\)"):
        evaluate(config.replace(resume=resume))
    checkpoint = store.load(resume)
    checkpoint.classes = None
    store.save(resume, checkpoint)
    with pytest.raises(DetrError, match=r"has 4 classes, but 8 are wanted"):
        evaluate(config.replace(resume=resume))


def test_a_class_count_of_its_own(config):
    train(config.replace(epochs=1, num_classes=9))
    checkpoint = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    assert len(checkpoint.state.model["class_embed.weight"]) == 10
    with pytest.raises(DetrError, match="labels up to 3"):
        train(config.replace(num_classes=3))


def test_weights_of_another_architecture(config, tmp_path):
    train(config.replace(epochs=1))
    checkpoint = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    del checkpoint.state.model["class_embed.bias"], checkpoint.state.optimizer["class_embed.bias"]
    store.save(tmp_path / "other.pkl", checkpoint)
    with pytest.raises(DetrError, match=r"other\.pkl: the weights do not fit this model; missing .*class_embed\.bias"):
        evaluate(config.replace(resume=str(tmp_path / "other.pkl")))


@pytest.mark.parametrize("of", ["", "average of ", "optimizer state of "])
def test_weights_that_have_diverged(config, tmp_path, of):
    """Or their moving averages, or AdamW's moments."""
    train(config.replace(epochs=1))
    checkpoint = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    state = checkpoint.state
    state.average = {name: value.copy() for name, value in state.model.items()}
    arrays = {"": state.model, "average of ": state.average}.get(of) or {n: v for n, (_, v) in state.optimizer.items()}
    arrays["class_embed.bias"][1] = float("inf")
    store.save(tmp_path / "diverged.pkl", checkpoint)
    with pytest.raises(DetrError, match=rf"diverged\.pkl: weights that are not finite \(1\): {of}class_embed\.bias\."):
        train(config.replace(resume=str(tmp_path / "diverged.pkl")))


@pytest.mark.parametrize("name, shape, told", [
    ("class_embed.bias", (1,), r"of another shape \(1\): average of class_embed\.bias \(1,\) instead of \(5,\)"),
    ("strange", (4,), r"surplus \(1\): average of strange")])
def test_averages_of_another_model(config, tmp_path, name, shape, told):
    """PyTorch would spread one number over a whole weight."""
    train(config.replace(epochs=1))
    checkpoint = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    checkpoint.state.average = {name: np.ones(shape, np.float32)}
    store.save(tmp_path / "other.pkl", checkpoint)
    with pytest.raises(DetrError, match=rf"other\.pkl: the weights do not fit this model; {told}"):
        train(config.replace(resume=str(tmp_path / "other.pkl")))


def test_every_step_has_a_dropout_seed_of_its_own(config, monkeypatch):
    seen, step = [], NumpyTwin.train_step
    monkeypatch.setattr(NumpyTwin, "train_step", lambda self, batch, seed, factor:
                        seen.append(seed) or step(self, batch, seed, factor))
    train(config.replace(epochs=2))
    assert seen == [seeding.step_seed(config.run.seed, step) for step in range(10)] and len(set(seen)) == 10


def test_workers_give_the_same_run(config, tmp_path):
    train(config.replace(output_dir=str(tmp_path / "none"), epochs=2))
    train(config.replace(output_dir=str(tmp_path / "two"), epochs=2, num_workers=2))
    same_run(tmp_path / "none", tmp_path / "two")


def test_scaled_and_unscaled_terms():
    weights = loss_weights(Config().replace(bbox_loss_coef=5.0, giou_loss_coef=2.0, dice_loss_coef=3.0))
    values = logged({"loss": 9.0, "loss_ce": 1.0, "loss_bbox_3": 0.5, "loss_giou": 0.25, "loss_dice": 2.0,
                     "class_error": 50.0, "cardinality_error_3": 7.0, "grad_norm": 1.5}, weights)
    assert values == {"class_error": 50.0, "loss": 9.0, "loss_ce": 1.0, "loss_bbox_3": 2.5, "loss_giou": 0.5,
                      "loss_dice": 6.0, "loss_ce_unscaled": 1.0, "loss_bbox_3_unscaled": 0.5,
                      "loss_giou_unscaled": 0.25, "loss_dice_unscaled": 2.0, "class_error_unscaled": 50.0,
                      "cardinality_error_3_unscaled": 7.0}
