"""How a comparison starts its runs, stops and goes on, with a NumPy twin in place of both frameworks."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from detr_jittor.__main__ import main
from detr_jittor.cli.compare import add_arguments, prepare
from detr_jittor.config.presets import PRESETS
from detr_jittor.engine import launch
from detr_jittor.report.log import read_log

pytestmark = pytest.mark.slow

NUMPY_TWIN = Path(__file__).parents[1] / "engine" / "numpy_twin.py"


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """Six training pictures: three steps of two."""
    monkeypatch.setattr(launch, "PROGRAM", [sys.executable, str(NUMPY_TWIN)])
    monkeypatch.chdir(tmp_path)
    assert main(["dataset", "demo", "--output_dir", "shapes", "--train", "6", "--val", "2", "--size", "32"]) == 0
    return tmp_path / "shapes"


def compare(*options: str) -> int:
    return main(["compare", "--coco_path", "shapes", "--output_dir", "out", "--backbone_weights", "none",
                 "--lr", "0.05", "--batch_size", "2", "--min_size", "32", "--max_size", "32", "--num_workers", "0",
                 "--epochs", "2", *options])


def checkpoints() -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in Path("out/runs").glob("*/checkpoint.pkl")}


def test_the_same_twin_twice_differs_in_nothing(dataset, capfd):
    assert compare("--seeds", "2") == 0
    assert capfd.readouterr().out.count("Training ") == 4
    written = json.loads(Path("out/comparison.json").read_text())
    assert written["seeds"] == [42, 43]
    for of_split in written["evaluations"].values():
        assert of_split["last"]["AP"]["difference"] == of_split["best"]["AP"]["difference"] == [0, 0]
    assert all(at["last"]["difference"] == [0, 0] for at in written["losses"].values())
    first, second = written["losses"]["train_loss"]["last"]["jittor"]
    assert first != second  # other seeds are other runs
    assert written["settings"]["eval_train"] == 64 and written["data"]["train"]["pictures"] == 6
    assert written["machine"]["threads"] >= 1 and "epochs 2" in written["command"]

    before = checkpoints()
    assert compare("--seeds", "2") == 0
    assert capfd.readouterr().out.count(" is complete.") == 4
    assert compare("--seeds", "3") == 0  # only the third seed is run
    assert capfd.readouterr().out.count("Training ") == 2
    assert len(before) == 4 and {file: checkpoints()[file] for file in before} == before

    assert compare("--lr", "0.1") == 2
    assert "jittor-seed42 holds a run with other settings: lr 0.05 and 0.1." in capfd.readouterr().err
    annotations = dataset / "annotations" / "instances_val2017.json"
    annotations.write_text(annotations.read_text() + " ")
    assert compare() == 2
    assert "made under other conditions: val {" in capfd.readouterr().err


def test_interrupted_and_repeated(dataset, monkeypatch, capfd):
    """SIGTERM in the second epoch of the second run; the repetition ends as if nothing had been."""
    monkeypatch.setenv("STEP_SECONDS", "0.4")
    log = Path("out/runs/pytorch-seed42/log.txt")

    def stop_when_there():
        for _ in range(1000):
            if log.exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=stop_when_there)
    thread.start()
    assert compare() == 143
    thread.join()
    assert "Interrupted. The same command goes on where it stopped." in capfd.readouterr().out
    assert len(read_log(log)) == 1 and not Path("out/comparison.html").exists()
    monkeypatch.setenv("STEP_SECONDS", "0")
    jittor = {file: when for file, when in checkpoints().items() if "jittor" in file}
    assert compare() == 0
    output = capfd.readouterr().out
    assert "jittor-seed42 is complete" in output and "1/1 Training pytorch" in output and "Going on from" in output
    assert jittor and jittor.items() <= checkpoints().items()
    written = json.loads(Path("out/comparison.json").read_text())
    assert all(value["difference"] == [0] for at in written["losses"].values() for value in at.values())


def test_a_run_that_fails(dataset, capfd):
    for file in (dataset / "train2017").iterdir():
        file.write_bytes(b"no picture")
    assert compare("--max_bad_images", "1") == 2
    errors = capfd.readouterr().err
    assert "2 pictures could not be read" in errors
    assert "error: the run in out/runs/jittor-seed42 ended with status 2." in errors
    assert not Path("out/runs/pytorch-seed42").exists()


@pytest.mark.parametrize("decoder", PRESETS)
def test_a_preset_is_that_of_the_decoder(dataset, decoder):
    words = ["--coco_path", str(dataset), "--output_dir", "out", "--preset", "demo", "--decoder", decoder]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    config, _ = prepare(parser.parse_args(words))
    assert (config.model.decoder, config.optim.epochs) == (decoder, PRESETS[decoder]["demo"].optim.epochs)


def test_all_training_pictures(dataset):
    assert compare("--epochs", "1", "--train_ap", "--preset", "minimal", "--lr_drop", "1") == 0
    written = json.loads(Path("out/comparison.json").read_text())
    assert written["settings"]["eval_train"] == 6 and written["settings"]["hidden_dim"] == 128
    assert "--preset minimal --train_ap" in written["command"]
    assert "train_eval" in written["evaluations"]
