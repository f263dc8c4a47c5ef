"""Training steps in which a last digit decides what a ReLU lets through."""

import pytest

from detr_jittor.align.plant import Fault
from detr_jittor.align.selftest import sample_trial
from detr_jittor.align.stages.training import lock_step, start_state, training_batches
from detr_jittor.align.trial import JITTOR


@pytest.mark.slow
@pytest.mark.parametrize("least, passes", [(2e-5, True), (1e-2, False)])
def test_only_inputs_near_zero_may_be_on_another_side(tmp_path, least, passes):
    """Of a ReLU that lets nothing below `least` through, where inputs are of the order of 1."""
    trial = sample_trial(tmp_path / "data", 9, plain=True)
    try:
        trial.start(JITTOR, Fault("late ReLU", "training", "jt/kernels/plain.py",
                                  (("nn.relu(y) if relu", f"y * (y > {least}) if relu"),)))
        items, _ = lock_step(trial, start_state(trial), training_batches(trial)[:1], [trial.seed])
    finally:
        trial.close()
    by_name = {item.name: item for item in items}
    assert all(item.passed for item in items) is passes
    assert by_name["step 0: kinks on the Jittor side"].passed is passes
    assert " 0 of" not in " " + by_name["step 0: kinks on the Jittor side"].note  # it is not float64's own side
    assert by_name["step 0: kinks on the PyTorch side"].passed
