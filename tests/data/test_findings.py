"""`detr-jittor dataset check`: what a detector suffers from, each planted in a set that has nothing of it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from detr_jittor.__main__ import main
from detr_jittor.data import same_pictures

SIDE = 100


class Set:
    """Two classes with 30 objects each to train on and 5 to validate with, 10 pictures and 5, none of them odd."""

    def __init__(self, root):
        self.root, self.content = root, {}
        random = np.random.default_rng(0)
        (root / "annotations").mkdir(parents=True)
        for split, count, each in (("train", 10, 3), ("val", 5, 1)):
            (root / f"{split}2017").mkdir()
            images, annotations = [], []
            for number in range(1, count + 1):
                noise = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
                noise.resize((SIDE, SIDE)).save(root / f"{split}2017" / f"{split}{number}.png")
                images.append({"id": number, "file_name": f"{split}{number}.png", "width": SIDE, "height": SIDE})
                annotations += [{"image_id": number, "category_id": label, "bbox": [30 * k, 40 * label, 20, 20],
                                 "area": 400, "iscrowd": 0} for label in (0, 1) for k in range(each)]
            for number, annotation in enumerate(annotations, 1):
                annotation["id"] = number
            self.content[split] = {"images": images, "annotations": annotations,
                                   "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}

    def write(self) -> None:
        for split, content in self.content.items():
            (self.root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))

    def add(self, split="train", **values) -> None:
        annotations = self.content[split]["annotations"]
        annotations.append({**annotations[0], "id": len(annotations) + 1, **values})


@pytest.fixture
def made(tmp_path):
    return Set(tmp_path / "set")


def findings(made, capsys, *options) -> tuple[dict[str, dict], int]:
    """({kind: finding}, exit status with --strict)"""
    made.write()
    status = main(["dataset", "check", "--data", str(made.root), "--json", "--strict", *options])
    report = json.loads(capsys.readouterr().out)
    return {finding["kind"]: finding for finding in report["findings"]}, status


def test_a_set_without_any(made, capsys):
    assert findings(made, capsys) == ({}, 0)


def third_class(made):
    for content in made.content.values():
        content["categories"].append({"id": 2, "name": "cow"})


def few(made):
    third_class(made)
    made.add(category_id=2)
    for number in range(3):
        made.add("val", category_id=2, image_id=number + 1, bbox=[70, 70, 20, 20])


def twice_in_a_split(made):
    shutil.copy(made.root / "train2017" / "train3.png", made.root / "train2017" / "train4.png")


def in_both(made):
    shutil.copy(made.root / "train2017" / "train3.png", made.root / "val2017" / "val2.png")


def anew(made, split: str, name: str) -> None:
    picture = Image.open(made.root / "train2017" / "train3.png").resize((SIDE // 2, SIDE // 2))
    picture.save(made.root / f"{split}2017" / name, "JPEG")


@pytest.mark.parametrize("plant, kind, split, count, example", [
    (third_class, "class without objects", "val", 1, "cow"),
    (few, "class with few objects", "train", 1, "cow 1"),
    (lambda made: made.add(bbox=[60, 80, 0.9, 0.9], area=1), "tiny boxes", "train", 1, "train1.png"),
    (lambda made: made.add(bbox=[1, 1, 98, 97]), "huge boxes", "train", 1, "train1.png"),
    (lambda made: made.add("val", bbox=[0.1, 0.1, 20, 20], image_id=3), "duplicate boxes", "val", 1, "val3.png"),
    (lambda made: made.add(bbox=[0, 0, 20, 20], category_id=1), "boxes of two classes", "train", 1, "train1.png"),
    (in_both, "pictures in both splits", "train and val", 1, "train/train3.png = val/val2.png"),
    (twice_in_a_split, "pictures twice", "all splits", 1, "train/train3.png = train/train4.png"),
    (lambda made: anew(made, "val", "val2.png"), "pictures saved anew in both splits", "train and val", 1,
     "train/train3.png ≈ val/val2.png"),
    (lambda made: anew(made, "train", "train7.png"), "pictures saved anew twice", "all splits", 1,
     "train/train3.png ≈ train/train7.png"),
])
def test_each_is_found(made, capsys, plant, kind, split, count, example):
    plant(made)
    found, status = findings(made, capsys)
    assert status == 2
    assert (found[kind]["split"], found[kind]["count"], found[kind]["examples"]) == (split, count, [example])


def test_a_file_that_is_twice_and_once_saved_anew(made, capsys):
    """Both are told."""
    in_both(made)
    anew(made, "val", "val5.png")
    found, _ = findings(made, capsys)
    assert {kind: finding["examples"] for kind, finding in found.items()} == {
        "pictures in both splits": ["train/train3.png = val/val2.png"],
        "pictures saved anew in both splits": ["train/train3.png = val/val2.png ≈ val/val5.png"]}
    assert findings(made, capsys, "--quick")[0].keys() == {"pictures in both splits"}


def test_a_picture_that_was_checked_is_not_decoded_again(made, capsys, monkeypatch):
    """And what is found is the same. One that cannot be used is compared all the same."""
    for number, name in ((3, "val2.png"), (5, "val4.png")):
        Image.open(made.root / "train2017" / f"train{number}.png").save(made.root / "val2017" / name, "JPEG")
    anew(made, "val", "val5.png")  # of another size than its annotations say
    quickly, _ = findings(made, capsys)
    assert quickly["pictures saved anew in both splits"]["count"] == 2
    again, real = [], same_pictures.grid_of
    monkeypatch.setattr(same_pictures, "grid_of", lambda path: again.append(path) or real(path))
    assert findings(made, capsys, "--pictures")[0] == quickly
    assert [path.rpartition("/")[2] for path in again] == ["val5.png"]


def test_queries_and_sizes_are_those_that_are_given(made, capsys):
    found, status = findings(made, capsys, "--num_queries", "5")
    assert status == 2 and found.keys() == {"more objects than queries"}
    assert found["more objects than queries"]["count"] == 10
    found, _ = findings(made, capsys, "--min_size", "30", "--max_size", "30")
    assert {f["kind"]: f["count"] for f in found.values()} == {"tiny boxes": 10}  # of val, the last that is told
    assert main(["dataset", "check", "--data", str(made.root), "--num_queries", "0"]) == 2


def test_without_strict_findings_are_no_faults(made, capsys):
    third_class(made)
    made.write()
    assert main(["dataset", "check", "--data", str(made.root)]) == 0
    out = capsys.readouterr().out
    assert "finding: train: 1 classes have no object: they are not learned (cow)" in out
    assert "--preset small fits" in out


def test_json_holds_the_faults_too(made, capsys):
    made.add(bbox=[1, 2, 3])
    made.write()
    assert main(["dataset", "check", "--data", str(made.root), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    fault, = report["faults"]
    assert fault["record"].startswith("annotation 61") and fault["file"].endswith("instances_train2017.json")
    assert report["splits"].keys() == {"val"} and report["splits"]["val"]["objects"] == 10
