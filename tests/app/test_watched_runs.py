"""What the page knows of training runs."""

import json
import os
import time

import pytest
from PIL import Image

from detr_jittor.app.runs import runs_in
from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.config.options import Config


def write_run(folder, epochs: int, ap: float = 0.5) -> None:
    folder.mkdir(parents=True)
    records = [{"epoch": e, "train_loss": 3.0 - e, "test_loss": 4.0, "train_lr": 1e-4, "train_step_time": 0.5,
                "test_coco_eval_bbox": [ap - 0.1 * e, 0.9]} for e in range(epochs)]
    (folder / "log.txt").write_text("".join(json.dumps(record) + "\n" for record in records) + '{"epoch": 9, "tr')
    (folder / "config.json").write_text(Config().replace(batch_size=4, accumulate=2).to_json())


def test_runs_and_what_their_logs_say(tmp_path):
    write_run(tmp_path / "b", 2)
    write_run(tmp_path / "more" / "a", 1)
    (tmp_path / "empty").mkdir()
    first, second = runs_in(tmp_path)
    assert (first.name, second.name) == ("b", "more/a")
    assert first.curves() == {
        "loss": {"b train": [(0, 3.0), (1, 2.0)], "b test": [(0, 4.0), (1, 4.0)]},
        "ap": {"b": [(0, 0.5), (1, 0.4)]}, "lr": {"b": [(0, 1e-4), (1, 1e-4)]}, "speed": {"b": [(0, 16), (1, 16)]}}
    assert first.state() == ["b", "", "1", "2.000", "0.400", "0.500", "0.0001", "16.0"]
    (itself,) = runs_in(tmp_path / "b")
    assert itself.name == "b"


def test_a_run_that_goes_on(tmp_path):
    """Also before its first epoch is logged; looking does not take its lock."""
    folder = RunFolder(tmp_path / "new", ".pkl")
    (run,) = runs_in(tmp_path)
    assert run.is_going_on and run.records == [] and run.state()[:3] == ["new", "●", ""]
    folder.close()
    assert runs_in(tmp_path) == []
    RunFolder(tmp_path / "new", ".pkl").close()


def test_the_newest_pictures(tmp_path):
    write_run(tmp_path / "a", 1)
    for number, name in enumerate(("c.jpg", "a.jpg", "b.jpg")):
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / name)
        os.utime(tmp_path / "a" / name, (time.time(), 1000 + number))
    assert [file.name for file in runs_in(tmp_path)[0].pictures] == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize("line", ["nonsense\n", '{"epoch": "x", "train_loss": "y", "test_coco_eval_bbox": []}\n', "",
                                  '{"train_loss": NaN, "epoch": 0}\n'])
def test_a_log_that_says_nothing(tmp_path, line):
    (tmp_path / "log.txt").write_text(line)
    (tmp_path / "config.json").write_text("[")
    (run,) = runs_in(tmp_path)
    assert all(points == [] for curves in run.curves().values() for points in curves.values())
    assert len(run.state()) == 8
