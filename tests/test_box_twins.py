"""The box decoder in both twins: from the same weights on the same batches they say and learn the same."""

import numpy as np
import pytest
from small import NUM_CLASSES, SMALL, begin_alike, both_twins, small_batch

from detr_jittor.config.check import check
from detr_jittor.errors import DetrError
from detr_jittor.twin import seeding

pytestmark = pytest.mark.slow

BOX = SMALL.replace(decoder="box")
PARTS = {"all parts": {}, "pre-norm, three stages": {"pre_norm": True, "backbone_stages": 3},
         "no conditional": {"no_conditional": True}, "no sampling": {"no_sampling": True},
         "no focal": {"no_focal": True}, "no denoising": {"denoising": 0}, "one layer": {"dec_layers": 1},
         "DC5, batch norm": {"dilation": True, "backbone_norm": "batch", "dec_layers": 3}}


@pytest.fixture(scope="module", params=PARTS)
def pair(request):
    """Twins with the parts of one row, one of which may be left out."""
    return begin_alike(both_twins(BOX.replace(**PARTS[request.param])))


def test_outputs_and_losses_agree(pair):
    """Logits relative to 1, or to their root mean square where that is more. Measured: logits within 1.7e-6, boxes
    2e-7, losses 2e-7."""
    batch = small_batch(7)
    (outputs, losses), (wanted, wanted_losses) = (twin.evaluate(batch) for twin in begin_alike(list(pair)))
    scale = max(1.0, float(np.sqrt(np.mean(np.square(wanted.logits)))))
    assert np.abs(outputs.logits - wanted.logits).max() < 2e-6 * scale
    assert np.abs(outputs.boxes - wanted.boxes).max() < 2e-6
    assert outputs.each == wanted.each == (not pair[0].config.model.no_focal)
    assert outputs.logits.shape[2] == NUM_CLASSES + (not outputs.each)
    assert losses.keys() == wanted_losses.keys()
    assert all(losses[n] == pytest.approx(wanted_losses[n], rel=1e-6, abs=1e-6) for n in losses)


def test_steps_have_the_same_losses(pair):
    """Dropout and denoising on. Measured: losses within 3e-7, gradient norms within 4e-6.

    With DC5 and batch norm the batches from 0 on have a ReLU's input within 2e-6 of 0, where the last digit of an
    instruction set decides; those from 20 on have none.
    """
    twins = begin_alike(list(pair))
    first = 20 if pair[0].config.model.dilation else 0
    for step in range(first, first + 6):
        logs = [twin.train_step(small_batch(step), seeding.step_seed(42, step), 1.0) for twin in twins]
        assert list(logs[0]) == list(logs[1])
        for name, value in logs[1].items():
            rel = 2e-5 if name == "grad_norm" else 2e-6
            assert logs[0][name] == pytest.approx(value, rel=rel, abs=2e-6), (step, name)
        assert ("loss_giou_dn" in logs[1]) == (twins[0].config.model.denoising > 0)


def test_every_weight_moves(pair):
    for twin in begin_alike(list(pair)):
        before = twin.state().model
        for step in range(2):
            twin.train_step(small_batch(step), step, 1.0)
        after = twin.state().model
        assert {n for n in before if not np.array_equal(before[n], after[n])} >= set(twin.trained)


def test_a_state_goes_on_in_the_other_twin(pair):
    source, target = begin_alike(list(pair))
    source.train_step(small_batch(0), 0, 1.0)
    target.load(source.state())
    logs = [twin.train_step(small_batch(1), 1, 1.0) for twin in (source, target)]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=2e-6)


def test_the_queries_do_not_see_the_copies():
    """The losses of the queries are the same with and without copies, in training too."""
    for twin in both_twins(BOX.replace(dropout=0.0)):
        logs = []
        for groups in (0, 5):
            twin.config = twin.config.replace(denoising=groups)
            begin_alike([twin])
            logs.append(twin.train_step(small_batch(3), 3, 1.0))
        for name in ("loss_ce", "loss_bbox_0", "loss_giou"):
            assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-6), name
        assert "loss_ce_dn" in logs[1] and "loss_ce_dn" not in logs[0]


@pytest.mark.parametrize("options, reason", [
    ({"masks": True, "hidden_dim": 128, "nheads": 8}, "--masks does not go with --decoder box"),
    ({"position_embedding": "learned"}, "between the places"), ({"hidden_dim": 48, "nheads": 4}, "divisible by 32"),
    ({"decoder": "detr", "no_sampling": True}, "a part of the box decoder"), ({"denoising": -1}, "is negative")])
def test_what_cannot_be_is_refused_with_the_reason(options, reason):
    check(BOX)
    with pytest.raises(DetrError, match=reason):
        check(BOX.replace(**options))
