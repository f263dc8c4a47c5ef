"""Every case of bad_input.py through the command line: never a traceback, never a silent repair."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from bad_input import ANNOTATIONS, PANOPTIC, PICTURES, SEGMENTS, as_texts, write_panoptic
from numpy_twin import NumpyTwin

from detr_jittor.__main__ import main
from detr_jittor.config.options import Config
from detr_jittor.data.splits import open_split
from detr_jittor.twin.matching import match

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
OPTIONS = "--batch_size 2 --epochs 1 --lr 0.1 --min_size 32 --max_size 64 --num_workers 0 --backbone_weights none"


def train(coco: Path, *options: str) -> int:
    return main(["train", "--coco_path", str(coco), *OPTIONS.split(), *options])


def change(root: Path, make, split: str = "train", kind: str = "instances") -> None:
    file = root / "annotations" / f"{kind}_{split}2017.json"
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
    check_told(case, train(coco), capsys, "instances_train2017.json")


def check_told(case, status: int, capsys, file: str) -> None:
    """That an annotation file was read, or refused in one line that names it."""
    out, told = capsys.readouterr()
    assert "Traceback" not in told
    if case.outcome == "read":
        assert status == 0 and case.told in out + told, (out, told)
    else:
        assert status == 2 and case.told in told and told.count("\n") == 1, told
        assert told.startswith("error: ") and file in told


@pytest.fixture
def panoptic(config, coco, monkeypatch) -> Path:
    """The same pictures in the panoptic layout, and a twin that finds a mask for each query."""
    predict = NumpyTwin.predict

    def with_masks(self, batch):
        outputs = predict(self, batch)
        if self.config.model.masks:
            outputs.masks = np.ones((*outputs.logits.shape[:2], *(s // 4 for s in batch.images.shape[2:])), np.float32)
            outputs.logits[..., :-1] *= 1000  # sure enough to be a segment
        return outputs

    def outline(data):
        for annotation in data["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]

    monkeypatch.setattr(NumpyTwin, "predict", with_masks)
    change(coco, outline, "val")
    return write_panoptic(coco)


def train_panoptic(coco: Path, panoptic: Path, *options: str) -> int:
    return train(coco, "--dataset_file", "coco_panoptic", "--coco_panoptic_path", str(panoptic), *options)


@pytest.mark.parametrize("name", PANOPTIC)
def test_panoptic_annotation_files(coco, panoptic, capsys, name):
    case = PANOPTIC[name]
    change(panoptic, case.make, kind="panoptic")
    check_told(case, train_panoptic(coco, panoptic), capsys, "panoptic_train2017.json")


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments(coco, panoptic, capsys, name):
    case = SEGMENTS[name]
    file = panoptic / "panoptic_train2017" / "3.png"
    case.make(file)
    assert train_panoptic(coco, panoptic, "--masks") == 0
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if case.outcome == "read":
        assert "left out" not in told
    else:
        assert re.search(f"left out: {re.escape(str(file))}.*{case.told}", told), told
        assert "1 pictures could not be read and were left out." in told
        assert train_panoptic(coco, panoptic, "--masks", "--max_bad_images", "0") == 2
        assert "--max_bad_images sets the limit" in capsys.readouterr().err


@pytest.mark.parametrize("instances", [True, False], ids=["with instances", "without instances"])
def test_segments_of_the_validation_split(coco, panoptic, capsys, tmp_path, instances):
    """A picture whose true segments cannot be read is left out of all that is measured, and told."""
    (panoptic / "panoptic_val2017" / "102.png").write_bytes(b"")
    (panoptic / "panoptic_val2017" / "104.png").write_bytes(b"")
    change(panoptic, lambda data: data["annotations"][3]["segments_info"].clear(), "val", "panoptic")
    if not instances:
        (coco / "annotations" / "instances_val2017.json").unlink()
        options = Config().replace(dataset_file="coco_panoptic", coco_path=str(coco), coco_panoptic_path=str(panoptic))
        index = open_split(options.data, "val", masks=True)
        truth = index.detection_truth
        assert [len(truth.annotations(place)) for place in range(4)] == [1, 0, 1, 0]
        assert truth.annotations(2).labels == index.annotations(2).labels[0]
    out = tmp_path / "out"
    assert train_panoptic(coco, panoptic, "--masks", "--output_dir", str(out)) == 0
    told = capsys.readouterr().err
    assert told.count("left out: ") == 1 and "102.png: not a readable picture (the file is empty)" in told
    assert main(["evaluate", "--coco_path", str(coco), "--resume", str(out / "checkpoint.pkl"), "--output_dir",
                 str(out), "--num_workers", "0"]) == 0
    found = json.loads((out / "eval.json").read_text())
    assert "without 2 pictures whose true segments cannot be read" in capsys.readouterr().out
    assert found["panoptic"]["left_out"] == 2
    ground = next(c for c in found["panoptic"]["classes"] if c["name"] == "ground")
    assert ground["tp"] + ground["fn"] == 2
    assert sum(c["objects"] for c in found["classes"]) == (4 if instances else 2)
    assert sorted(os.listdir(out / "panoptic_eval")) == [
        "000000000101.png", "000000000103.png", "000000000104.png", "predictions.json", "truth.json"]


def test_panoptic_quality_of_a_file_with_texts(coco, panoptic, tmp_path):
    """The truth is read a second time when it is measured; the numbers are those of the file with numbers."""
    found = []
    for change_of_val in (lambda data: None, as_texts):
        change(panoptic, change_of_val, "val", "panoptic")
        out = tmp_path / f"out{len(found)}"
        assert train_panoptic(coco, panoptic, "--masks", "--output_dir", str(out)) == 0
        found.append(json.loads((out / "log.txt").read_text()))
    assert found[0]["test_PQ_all"]["n"] > 0
    assert all(found[0][f"test_PQ_{group}"] == found[1][f"test_PQ_{group}"] for group in ("all", "th", "st"))


def test_the_predicted_segments_cannot_be_written(coco, panoptic, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "panoptic_eval").symlink_to(tmp_path / "nowhere" / "else")
    assert train_panoptic(coco, panoptic, "--masks", "--output_dir", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "panoptic_eval: segments cannot be written" in error and error.count("\n") == 1


HOSTILE = ("$(touch canary)", "`touch canary`", "; touch canary;", "|touch canary",
           "__import__('os').system('touch canary')", "!!python/object/apply:os.system ['touch canary']",
           "{0.__class__.__init__.__globals__}", "%(touch canary)s",
           {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch canary"]}]},
           {"__reduce__": ["os.system", ["touch canary"]], "__class__": "os._wrap_close"})


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_no_text_runs(config, coco, panoptic, capsys, monkeypatch, tmp_path, number):
    """As a value in each kind of JSON; the canary file must stay untouched."""
    value = HOSTILE[number]
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for make in (lambda data: data["categories"][2].update(name=value),
                 lambda data: data["images"][2].update(file_name=value),
                 lambda data: data["annotations"][2].update(segments_info=[value], segmentation=value),
                 lambda data: data["annotations"][2].update(file_name=value)):
        for root, kind in ((coco, "instances"), (panoptic, "panoptic")):
            file = root / "annotations" / f"{kind}_train2017.json"
            good = file.read_text()
            change(root, make, kind=kind)
            train(coco, "--masks")
            train_panoptic(coco, panoptic, "--masks")
            file.write_text(good)
    for name in ("output_dir", "resume", "weights", "backbone_weights", "coco_path", "dist_url", "device", "lr"):
        Path("config.json").write_text(json.dumps({"coco_path": str(coco), "max_steps": 1, name: value}))
        status = main(["train", "--config", "config.json", "--num_workers", "0"])
        assert status in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.rglob("canary"))


def test_splits_that_name_other_classes(config, coco, capsys):
    change(coco, lambda data: data["categories"].append({"id": 9, "name": "black"}), "val")
    assert train(coco) == 2
    error = capsys.readouterr().err
    assert "instances_val2017 has category 9 (black)" in error and error.count("\n") == 1


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
    """The tables of docs/reliability.md are this corpus."""
    text = DOCUMENT.read_text(encoding="utf-8").split("## Bad input")[1]
    rows = re.findall(r"^\| (.+?) \| (read|left out|refused)\b", text, re.M)
    cases = [case for part in (PICTURES, ANNOTATIONS, PANOPTIC, SEGMENTS) for case in part.items()]
    assert rows == [(name, case.outcome) for name, case in cases]
