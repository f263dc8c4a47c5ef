"""Every case of bad_input.py through the command line: never a traceback, never a silent repair."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from bad_input import ANNOTATIONS, PICTURES
from numpy_twin import NumpyTwin

from detr_jittor.__main__ import main
from detr_jittor.matching import match

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
OPTIONS = "--batch_size 2 --epochs 1 --lr 0.1 --min_size 32 --max_size 64 --num_workers 0 --backbone_weights none"


def train(coco: Path, *options: str) -> int:
    return main(["train", "--coco_path", str(coco), *OPTIONS.split(), *options])


def change(coco: Path, make, split: str = "train") -> None:
    file = coco / "annotations" / f"instances_{split}2017.json"
    data = json.loads(file.read_text())
    text = make(data)
    file.write_text(text if isinstance(text, str) else json.dumps(data))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(config, coco, capsys, name):
    case = PICTURES[name]
    file = coco / "train2017" / "3.png"
    file.unlink()
    case.make(file)
    height, width = case.size

    def annotate(data):
        data["images"][2].update(height=height, width=width)
        data["annotations"][2]["bbox"] = [0, 0, width, height]

    change(coco, annotate)
    assert train(coco) == 0
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if case.outcome == "read":
        assert "left out" not in told
    else:
        assert case.outcome == "left out" and re.search(f"left out: {re.escape(str(file))}.*{case.told}", told), told
        assert "1 pictures could not be read and were left out." in told
        assert train(coco, "--max_bad_images", "0") == 2  # the limit, and the same fault in evaluation
        assert "--max_bad_images sets the limit" in capsys.readouterr().err


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotation_files(config, coco, capsys, name):
    case = ANNOTATIONS[name]
    change(coco, case.make)
    if "categor" in name or "ids" in name:  # both splits must name the same
        (coco / "annotations" / "instances_val2017.json").write_text(
            (coco / "annotations" / "instances_train2017.json").read_text())
        (coco / "val2017").rename(coco / "unused")
        (coco / "val2017").symlink_to("train2017")
    status = train(coco)
    out, told = capsys.readouterr()
    assert "Traceback" not in told
    if case.outcome == "read":
        assert status == 0 and case.told in out, (out, told)
    else:
        assert status == 2 and case.told in told and told.count("\n") == 1, told
        assert told.startswith("error: ") and "instances_train2017.json" in told


def test_splits_that_name_other_classes(config, coco, capsys):
    change(coco, lambda data: data["categories"].append({"id": 9, "name": "black"}), "val")
    assert train(coco) == 2
    error = capsys.readouterr().err
    assert "differ in category 9 (black)" in error and error.count("\n") == 1


@pytest.mark.parametrize("options, told", [
    (["--lr", "0"], "--lr 0.0 is not positive"), (["--lr", "nan"], "--lr nan is no finite number"),
    (["--lr", "inf"], "--lr inf is no finite number"),
    (["--batch_size", "12"], "11 pictures do not make a batch of 12"),
    (["--batch_size", "0"], "--batch_size 0 is less than 1"), (["--eos_coef", "-1"], "--eos_coef -1.0 is negative")])
def test_numbers(config, coco, capsys, options, told):
    assert train(coco, *options) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@pytest.mark.parametrize("what, told", [
    ("loss", r"step 2: the loss is nan, with .*\.png"),
    ("grad_norm", r"step 2: the gradient's norm is nan, with .*\.png"),
    ("cost", r"step 2, .*\.png: the matching cost is not finite")])
def test_a_step_that_is_not_finite(config, coco, capsys, monkeypatch, what, told):
    step = NumpyTwin.train_step

    def spoiled(self, *arguments):
        losses = step(self, *arguments)
        if what == "cost" and self.steps == 3:
            match(np.full((1, 1, 1, 1), np.nan), [1])
        return losses | {what: float("nan")} if self.steps == 3 else losses

    monkeypatch.setattr(NumpyTwin, "train_step", spoiled)
    assert train(coco) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(told, error)


def test_the_document_has_every_case():
    """The table of docs/reliability.md is this corpus."""
    table = DOCUMENT.read_text(encoding="utf-8").split("## Bad input")[1]
    rows = re.findall(r"^\| (.+?) \| (read|left out|refused)\b", table, re.M)
    assert rows == [(name, case.outcome) for name, case in (PICTURES | ANNOTATIONS).items()]
