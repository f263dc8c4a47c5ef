"""The commands as a user types them, with the NumPy twin: train, --eval, evaluate, convert."""

import json

import pytest

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.report.log import read_log

OPTIONS = "--batch_size 2 --epochs 2 --lr 0.1 --min_size 32 --max_size 64 --num_workers 0 --backbone_weights none"


@pytest.fixture
def run(config, coco, tmp_path, capsys):
    """A finished run's folder."""
    assert main(["train", "--coco_path", str(coco), "--output_dir", str(tmp_path / "run"), *OPTIONS.split()]) == 0
    capsys.readouterr()
    return tmp_path / "run"


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_eval_prints_what_the_run_measured(run, coco, capsys, suffix):
    """The second command of the README, with either suffix; the checkpoint describes its own model."""
    if suffix == ".pth":
        assert main(["convert", str(run / "checkpoint.pkl"), str(run / "checkpoint.pth")]) == 0
    assert main(["train", "--batch_size", "2", "--no_aux_loss", "--eval", "--resume", str(run / f"checkpoint{suffix}"),
                 "--coco_path", str(coco), "--output_dir", str(run)]) == 0
    printed = capsys.readouterr().out
    stats = read_log(run / "log.txt")[-1]["test_coco_eval_bbox"]
    assert f"| maxDets=100 ] = {stats[0]:0.3f}" in printed and printed.count(" @[ IoU=") == 12
    assert all(name in printed for name in ("red", "green", "blue"))
    assert json.loads((run / "eval.json").read_text())["AP"] == stats[0]


def test_evaluate_is_the_same(run, capsys):
    assert main(["evaluate", "--resume", str(run / "checkpoint.pkl")]) == 0
    assert capsys.readouterr().out.count(" @[ IoU=") == 12
    assert not (run / "eval.json").exists()


def test_a_run_goes_on_by_itself(run, capsys):
    """--resume auto in the same folder: everything but the number of epochs comes from the checkpoint."""
    assert main(["train", "--resume", "auto", "--output_dir", str(run), "--epochs", "3", "--num_workers", "0"]) == 0
    assert [record["epoch"] for record in read_log(run / "log.txt")] == [0, 1, 2]
    assert store.load(run / "checkpoint.pkl").config.optim.lr == 0.1


def test_config_repeats_a_run(run, tmp_path):
    again = tmp_path / "again"
    assert main(["train", "--config", str(run / "config.json"), "--output_dir", str(again)]) == 0
    one, other = store.load(run / "checkpoint.pkl"), store.load(again / "checkpoint.pkl")
    assert all(one.state.model[name].tobytes() == other.state.model[name].tobytes() for name in one.state.model)


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_convert(run, tmp_path, capsys, suffix):
    target = tmp_path / f"converted{suffix}"
    assert main(["convert", str(run / "best.pkl"), str(target)]) == 0
    one, other = store.load(run / "best.pkl"), store.load(target)
    assert f"4 arrays and AdamW's state after {one.state.steps} steps" in capsys.readouterr().out
    assert all(one.state.model[name].tobytes() == other.state.model[name].tobytes() for name in one.state.model)


@pytest.mark.parametrize("arguments, fault", [
    (["convert", "missing.pkl", "a.pth"], "no such file"), (["convert", "RUN/best.pkl", "a.onnx"], "no format"),
    (["convert", "RUN/best.pkl", "/no/such/folder/a.pth"], "could not be written"),
    (["evaluate", "--resume", "RUN/log.txt"], "no format"), (["evaluate"], "no weights to evaluate"),
    (["evaluate", "--resume", "RUN/best.pkl", "--coco_path", "/no/such"], "no such folder"),
    (["evaluate", "--resume", "RUN/best.pkl", "--output_dir", "RUN/log.txt/x"], "cannot be written")])
def test_faults_are_one_line(run, capsys, arguments, fault):
    assert main([argument.replace("RUN", str(run)) for argument in arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and fault in lines[0], lines
