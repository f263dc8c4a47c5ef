"""The curves: which points are drawn, and that the files are pictures."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from detr_jittor.report.plot import curve, draw, plot_performance, plot_training_loss

LOG = [{"epoch": epoch, "train_loss": 9.0 - epoch, "test_coco_eval_bbox": [epoch / 10] * 12} for epoch in range(3)]


def test_a_curve_holds_each_epoch_once_the_last_run_of_it():
    log = [*LOG, {"epoch": 1, "train_loss": 5.0}, {"epoch": 3, "train_loss": float("nan")}, {"epoch": 4},
           {"epoch": 5, "train_loss": "much"}, {"train_loss": 1.0}, {"epoch": None, "train_loss": 1.0}]
    assert curve(log, "train_loss") == {0: 9.0, 1: 5.0, 2: 7.0}


def test_a_curve_of_ap_leaves_out_what_was_not_measured():
    log = [{"epoch": 0, "test_coco_eval_bbox": [-1.0] * 12}, {"epoch": 1}, {"epoch": 2, "test_coco_eval_bbox": []},
           {"epoch": 4, "test_coco_eval_bbox": 7},
           {"epoch": 3, "test_coco_eval_bbox": [0.1, 0.2, 0.3]}]
    assert curve(log, "test_coco_eval_bbox", 0) == {3: 0.1}
    assert curve(log, "test_coco_eval_bbox", 1) == {3: 0.2}


def test_every_log_is_one_labelled_curve():
    axes = Figure().subplots()
    draw(axes, {"a": {0: 1.0, 1: 3.0, 2: 2.0}, "b": {}}, "AP", ending="best")
    a, b = axes.lines
    np.testing.assert_array_equal(a.get_xydata(), [[0, 1], [1, 3], [2, 2]])
    assert (a.get_label(), b.get_label()) == ("a (best 3.000)", "b (none)")
    assert a.get_color() != b.get_color() and a.get_linewidth() > b.get_linewidth()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a (best 3.000)", "b (none)"]


def test_no_curve_at_all_is_said():
    axes = Figure().subplots()
    draw(axes, {"a": {}}, "AP", ending="best")
    assert [text.get_text() for text in axes.texts] == ["not in these logs"]


@pytest.mark.parametrize("logs", [{"a": LOG}, {f"run {i}": LOG[:1] for i in range(9)}, {"empty": []}])
def test_the_files_are_pictures(logs, tmp_path):
    for plot in (plot_training_loss, plot_performance):
        path = tmp_path / f"{plot.__name__}.png"
        plot(logs, path)
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG" and image.width >= 1000 and np.asarray(image).std() > 10
