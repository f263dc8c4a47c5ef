"""How often a run evaluates, and on what."""

import re
from pathlib import Path

import pytest
from test_training import same_run

from detr_jittor.checkpoint import store
from detr_jittor.config.check import check
from detr_jittor.data.splits import open_split
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log


def evaluated_epochs(folder: str | Path) -> list[int]:
    return [record["epoch"] for record in read_log(Path(folder) / "log.txt") if "test_coco_eval_bbox" in record]


@pytest.mark.parametrize("every, epochs, expected", [(1, 4, [0, 1, 2, 3]), (3, 7, [2, 5, 6]), (9, 4, [3])])
def test_every_so_many_epochs_and_after_the_last(config, every, epochs, expected):
    train(config.replace(eval_every=every, epochs=epochs))
    out = Path(config.run.output_dir)
    assert evaluated_epochs(out) == expected
    assert [record["epoch"] for record in read_log(out / "log.txt")] == list(range(epochs))
    assert all("train_loss" in record for record in read_log(out / "log.txt"))
    lines = (out / "eval_summary.txt").read_text().splitlines()
    assert [int(re.search(r"epoch= *(\d+)", line)[1]) for line in lines] == expected
    assert store.load(out / "best.pkl").epoch in expected and store.load(out / "checkpoint.pkl").epoch == epochs - 1


def test_the_rhythm_changes_nothing_in_what_is_learned(config, tmp_path):
    train(config.replace(output_dir=str(tmp_path / "often")))
    train(config.replace(output_dir=str(tmp_path / "seldom"), eval_every=4))
    often, seldom = (store.load(tmp_path / name / "checkpoint.pkl").state.model for name in ("often", "seldom"))
    assert all(often[name].tobytes() == seldom[name].tobytes() for name in often)
    last = [read_log(tmp_path / name / "log.txt")[-1] for name in ("often", "seldom")]
    assert last[0]["test_coco_eval_bbox"] == last[1]["test_coco_eval_bbox"]


def test_the_last_step_is_evaluated(config):
    train(config.replace(eval_every=4, max_steps=7))
    assert evaluated_epochs(config.run.output_dir) == [1]


@pytest.mark.parametrize("stop_after", [2, 8])
def test_resume_is_exact(config, tmp_path, stop_after):
    config = config.replace(eval_every=2, eval_train=6)
    train(config.replace(output_dir=str(tmp_path / "whole")))
    parts = config.replace(output_dir=str(tmp_path / "parts"))
    train(parts.replace(max_steps=stop_after, epochs=9))
    train(parts.replace(resume="auto"))
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_training_pictures_are_evaluated_without_augmentation(config):
    """Six of eleven, in evaluation mode: the same twin evaluated on these six alone gives the same numbers."""
    config = config.replace(eval_train=6)
    train(config)
    record = read_log(Path(config.run.output_dir) / "log.txt")[-1]
    assert record["train_eval_loss"] != record["train_loss"] and record["train_eval_seconds"] > 0
    root = Path(config.data.coco_path)
    for folder in ("annotations/instances_val2017.json", "val2017"):
        (root / folder).rename(root / folder.replace("val", "former"))
    (root / "val2017").symlink_to("train2017")
    six(root)
    summary = evaluate(config.replace(resume=str(Path(config.run.output_dir) / "checkpoint.pkl")))
    assert summary.bbox.stats == record["train_eval_coco_eval_bbox"]
    assert summary.bbox.stats != record["test_coco_eval_bbox"]


def six(root: Path) -> None:
    """Make the first six training pictures the validation split."""
    import json

    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    content["images"] = content["images"][:6]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))


def test_the_first_pictures_of_a_dataset(config):
    whole = open_split(config.data, "train")
    part = whole.first(4)
    assert len(part) == 4 and [i.id for i in part.images] == [1, 2, 3, 4] and part.classes == whole.classes
    assert all((part.annotations(place).boxes == whole.annotations(place).boxes).all() for place in range(4))
    assert len(part.ground_truth()["annotations"]) == 4
    assert len(whole.first(99)) == 11


@pytest.mark.parametrize("name, value", [("eval_every", 0), ("eval_train", -1)])
def test_numbers_that_cannot_be(config, name, value):
    with pytest.raises(DetrError, match=f"--{name} {value} is"):
        check(config.replace(**{name: value}))
