"""The verdict over a tensor: the arithmetic, and that nothing slips through."""

import numpy as np
import pytest

from detr_jittor.align.measure import compare, exact, within
from detr_jittor.align.tolerances import TOLERANCES, tolerance

TRUTH = np.random.default_rng(0).standard_normal((40, 50))
PYTORCH = TRUTH + 1e-5 * np.random.default_rng(1).standard_normal(TRUTH.shape)


def off(factor: float) -> np.ndarray:
    """As far from the truth as PyTorch, times a factor."""
    return TRUTH + factor * (PYTORCH - TRUTH)


def test_the_ratio_is_that_of_the_errors():
    item = compare("x", off(3), PYTORCH, TRUTH)
    assert item.passed
    assert item.ratio == pytest.approx(3)
    assert item.jittor.rms == pytest.approx(3e-5, rel=0.1)
    assert item.cosine == pytest.approx(1)


@pytest.mark.parametrize("factor, passes", [(0, True), (1, True), (3.9, True), (4.1, False), (100, False)])
def test_four_times_the_error_is_the_limit(factor, passes):
    assert compare("x", off(factor), PYTORCH, TRUTH).passed is passes


def test_one_element_far_off_fails():
    jittor = off(1)
    jittor[3, 4] += 0.01
    assert not compare("x", jittor, PYTORCH, TRUTH).passed


@pytest.mark.parametrize("error, passes", [(8e-7, True), (1.5e-5, False)])
def test_an_element_far_above_the_others_is_held_against_itself(error, passes):
    """By the root mean square of a million its error counts for little: the worst element decides."""
    truth = np.ones(1_000_000)
    truth[7] = 40
    jittor = truth.copy()
    jittor[7] *= 1 + error
    item = compare("x", jittor, truth, truth)
    assert item.jittor.rms < tolerance("floor") and item.jittor.worst == pytest.approx(error)
    assert item.passed is passes


def test_an_error_of_float32_passes_whatever_pytorch_has():
    assert compare("x", TRUTH * (1 + 5e-7), TRUTH, TRUTH).passed
    assert not compare("x", TRUTH * (1 + 5e-6), TRUTH, TRUTH).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["jittor", "pytorch", "truth"])
def test_nan_and_infinity_pass_nothing(value, place):
    arrays = {"jittor": off(1).copy(), "pytorch": PYTORCH.copy(), "truth": TRUTH.copy()}
    arrays[place][0, 0] = value
    with np.errstate(invalid="ignore"):
        assert not compare("x", **arrays).passed


def test_other_shapes_fail():
    assert "shapes" in compare("x", off(1)[1:], PYTORCH, TRUTH).note
    assert not compare("x", off(1)[1:], PYTORCH, TRUTH).passed


def test_a_yardstick_that_is_broken_is_none():
    """Where PyTorch itself is far off, four times its error would pass anything."""
    assert not compare("x", TRUTH, TRUTH * 1.2, TRUTH).passed


def test_a_yardstick_that_errs_by_storage_in_float32_alone_is_trusted():
    """A bias of −4.6 that moves by less than float32 can tell there: no twin can do better."""
    small = np.array([1e-7, -2e-7])
    stored = np.array([0.0, -4.8e-7])
    assert compare("update", stored, stored, small, floor=4.8e-7).passed
    assert not compare("update", stored, stored, small).passed
    assert not compare("update", stored + 1e-5, stored, small, floor=4.8e-7).passed
    assert not compare("update", stored, np.array([0.0, np.nan]), small, floor=4.8e-7).passed


def test_whole_numbers_must_be_equal():
    assert exact("x", np.arange(5), np.arange(5)).passed
    assert "1 of 5" in exact("x", np.arange(5), np.array([0, 1, 2, 3, 5])).note
    assert not exact("x", np.arange(5), np.arange(6)).passed
    assert not exact("count", 3, 4).passed


def test_within_answers_with_a_bool_that_json_knows():
    assert within(np.float64(1), np.float64(1), "floor") is True


def test_every_tolerance_has_a_measured_value_and_a_reason():
    assert [name for name, t in TOLERANCES.items() if not (t.reason and t.measured)] == []
    assert tolerance("factor") == 4
