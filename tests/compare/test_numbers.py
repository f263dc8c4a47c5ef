"""The numbers of a comparison, against SciPy and by hand."""

import pytest
from made_runs import write_run
from scipy import stats

from detr_jittor.compare.numbers import Quantity, costs, evaluations, losses
from detr_jittor.compare.protocol import paired, read_run


def test_last_and_best_epoch(pairs):
    held_out = evaluations(pairs)["test"]
    assert held_out["last"].epoch == Quantity([2, 2, 2], [2, 2, 2])
    assert held_out["last"].values["AP"] == Quantity([0.30, 0.36, 0.33], [0.32, 0.33, 0.37])
    assert held_out["best"].epoch == Quantity([1, 1, 1], [1, 1, 1])
    assert held_out["best"].values["AP50"].jittor == pytest.approx([0.42, 0.48, 0.45])
    assert held_out["best"].values["AP75"].pytorch == pytest.approx([0.24, 0.25, 0.29])
    assert evaluations(pairs)["train_eval"]["last"].values["AP"].jittor == pytest.approx([0.60, 0.72, 0.66])


def test_the_first_of_equally_good_epochs(tmp_path):
    runs = [read_run(write_run(tmp_path, framework, aps=(0.2, 0.3, 0.3))) for framework in ("jittor", "pytorch")]
    assert evaluations(paired(runs))["test"]["best"].epoch == Quantity([1], [1])


def test_the_best_epoch_is_each_runs_own(tmp_path):
    runs = [read_run(write_run(tmp_path, "jittor", aps=(0.5, 0.3, 0.3))),
            read_run(write_run(tmp_path, "pytorch", aps=(0.2, 0.3, 0.4)))]
    best = evaluations(paired(runs))["test"]["best"]
    assert best.epoch == Quantity([0], [2]) and best.values["AP"] == Quantity([0.5], [0.4])


def test_nothing_to_measure(tmp_path):
    """COCO's −1, where the ground truth has no object, is no AP; and what was not evaluated is not there."""
    nothing = [{"test_coco_eval_bbox": [-1.0] * 12, "train_eval_coco_eval_bbox": None}] * 3
    runs = [read_run(write_run(tmp_path, framework, records=nothing)) for framework in ("jittor", "pytorch")]
    found = evaluations(paired(runs))
    assert found.keys() == {"test"} and found["test"]["last"].values == {}


def test_epochs_without_evaluation(tmp_path):
    seldom = [{"test_coco_eval_bbox": None, "train_eval_coco_eval_bbox": None, "test_loss": None}] * 2 + [{}]
    runs = [read_run(write_run(tmp_path, framework, records=seldom)) for framework in ("jittor", "pytorch")]
    pairs = paired(runs)
    assert evaluations(pairs)["test"]["best"].epoch == Quantity([2], [2])
    assert losses(pairs)["test_loss"]["first"] == Quantity([9.0], [9.0])


def test_differences_and_ratio(pairs):
    ap = evaluations(pairs)["test"]["last"].values["AP"]
    assert ap.differences == pytest.approx([-0.02, 0.03, -0.04])
    assert ap.difference == pytest.approx(-0.01)
    assert Quantity([2.0, 4.0], [3.0, 9.0]).ratio == 0.5


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_noise_band_is_the_t_tests_interval(count, pairs):
    ap = Quantity([0.3 + 0.01 * (i * i % 5) for i in range(count)], [0.28 + 0.02 * (i % 3) for i in range(count)])
    interval = stats.ttest_ind(ap.jittor, ap.pytorch).confidence_interval(0.95)
    assert ap.noise == pytest.approx((interval.high - interval.low) / 2)
    assert Quantity([0.3], [0.2]).noise is None


def test_losses(tmp_path):
    runs = [read_run(write_run(tmp_path, "jittor", loss=9.0)), read_run(write_run(tmp_path, "pytorch", loss=8.0))]
    found = losses(paired(runs))
    assert found["train_loss"] == {"first": Quantity([9.0], [8.0]), "last": Quantity([7.0], [6.0])}
    assert found["train_eval_loss"]["last"] == Quantity([4.5], [4.0])
    assert found["test_loss"]["last"] == Quantity([9.0], [8.0])


def test_costs(tmp_path):
    slow = [{"train_step_time": 8.0, "train_seconds": 7.0}, {"train_step_time": 1.0}, {"train_step_time": 2.0}]
    runs = [read_run(write_run(tmp_path, "jittor")), read_run(write_run(tmp_path, "pytorch", records=slow))]
    spent = costs(paired(runs))
    assert spent["step_seconds"] == Quantity([0.6], [2.0])
    assert spent["train_seconds"] == Quantity([9.0], [13.0])
    assert spent["first_epoch_seconds"] == Quantity([3.0], [7.0])
    assert spent["evaluation_seconds"] == Quantity([4.5], [4.5])
    assert spent["peak_memory_mb"] == Quantity([102.0], [102.0])
