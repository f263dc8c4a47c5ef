"""Each option of losses, matching and optimizer changes what it says, by as much as it says, and nothing else."""

import numpy as np
import pytest
from small import NUM_CLASSES, SMALLER, WITH_MASKS, small_batch, small_state

from detr_jittor.jt.twin import JittorTwin

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip  (jittor first)

pytestmark = pytest.mark.slow

TWINS = pytest.mark.parametrize("cls", [JittorTwin, PyTorchTwin], ids=["jittor", "pytorch"])


def twin_with(cls, config=SMALLER, **options):
    twin = cls(config.replace(dropout=0.0).replace(**options), NUM_CLASSES)
    twin.load(small_state(twin))
    return twin


def losses(cls, config=SMALLER, **options) -> dict[str, float]:
    return twin_with(cls, config, **options).evaluate(small_batch(3, masks=config.model.masks))[1]


def total(log: dict[str, float], term: str) -> float:
    """A term over all layers."""
    return sum(value for name, value in log.items() if name.rstrip("0123456789").rstrip("_") == term)


@TWINS
@pytest.mark.parametrize("option, term, config", [
    ("bbox_loss_coef", "loss_bbox", SMALLER), ("giou_loss_coef", "loss_giou", SMALLER),
    ("mask_loss_coef", "loss_mask", WITH_MASKS), ("dice_loss_coef", "loss_dice", WITH_MASKS)])
def test_coefficients_weigh_their_terms(cls, option, term, config):
    usual, heavier = losses(cls, config), losses(cls, config, **{option: getattr(config.loss, option) + 3})
    assert heavier["loss"] - usual["loss"] == pytest.approx(3 * total(usual, term), rel=1e-4) and total(usual, term) > 0
    assert all(heavier[name] == usual[name] for name in usual if name != "loss")


@TWINS
def test_eos_coef_weighs_no_object_in_the_class_loss(cls):
    """Of the class loss alone; at 0 only matched queries count, at 1 all alike."""
    logs = [losses(cls, eos_coef=value) for value in (0.0, 0.1, 1.0)]
    assert len({log["loss_ce"] for log in logs}) == 3
    assert all(log[name] == logs[0][name] for log in logs for name in log if name != "loss" and "loss_ce" not in name)


@TWINS
def test_costs_decide_the_assignment(cls):
    """Matched by one cost alone, the sum of that cost is less than when matched by another."""
    none = {"set_cost_class": 0.0, "set_cost_bbox": 0.0, "set_cost_giou": 0.0}
    by = {name: losses(cls, **{**none, f"set_cost_{name}": 1.0}) for name in ("class", "bbox", "giou")}
    assert total(by["bbox"], "loss_bbox") < min(total(by[n], "loss_bbox") for n in ("class", "giou"))
    assert total(by["giou"], "loss_giou") < min(total(by[n], "loss_giou") for n in ("class", "bbox"))
    assert total(by["class"], "loss_ce") < min(total(by[n], "loss_ce") for n in ("bbox", "giou"))


@TWINS
def test_no_aux_loss_leaves_the_last_layer(cls):
    usual, last = losses(cls), losses(cls, no_aux_loss=True)
    assert {n for n in usual if n not in last} == {f"{n}_0" for n in (
        "loss_ce", "loss_bbox", "loss_giou", "cardinality_error")}
    assert last["loss"] == pytest.approx(last["loss_ce"] + 5 * last["loss_bbox"] + 2 * last["loss_giou"], rel=1e-5)
    assert all(last[n] == pytest.approx(usual[n], rel=1e-6) for n in last if n != "loss")


def step(cls, factor=1.0, **options):
    """(log of one training step, weights before, weights after, first moments)"""
    twin = twin_with(cls, **options)
    before = twin.state().model
    log = twin.train_step(small_batch(3), 5, factor)
    after = twin.state()
    return log, before, after.model, {name: m for name, (m, _) in after.optimizer.items()}


@TWINS
def test_the_optimizers_options(cls):
    plain = {"lr": 1e-3, "lr_backbone": 1e-4, "weight_decay": 0.0, "clip_max_norm": 0.0}
    log, before, usual, gradients = step(cls, **plain)
    head, body = "class_embed.weight", "backbone.0.body.layer3.0.conv1.weight"

    def moved(after, name):
        return np.linalg.norm(after[name].astype(np.float64) - before[name])

    for option, fast, slow in (("lr", head, body), ("lr_backbone", body, head)):
        after = step(cls, **{**plain, option: 2 * plain[option]})[2]
        assert moved(after, fast) == pytest.approx(2 * moved(usual, fast), rel=1e-3), option
        assert moved(after, slow) == pytest.approx(moved(usual, slow), rel=1e-3), option
    after = step(cls, 0.25, **plain)[2]  # the schedule's factor is for both groups
    for name in (head, body):
        assert moved(after, name) == pytest.approx(moved(usual, name) / 4, rel=1e-3), name
    after = step(cls, **{**plain, "weight_decay": 0.5})[2]
    assert np.allclose(after[head] - usual[head], -1e-3 * 0.5 * before[head], atol=1e-6)
    clipped = step(cls, **{**plain, "clip_max_norm": 0.01})
    assert clipped[0]["grad_norm"] == pytest.approx(log["grad_norm"], rel=1e-4) and log["grad_norm"] > 0.02
    assert np.allclose(clipped[3][head] * log["grad_norm"] / 0.01, gradients[head], rtol=1e-3, atol=1e-7)


@TWINS
def test_dropout_acts_in_training_only(cls):
    batch = small_batch(3)
    pair = [twin_with(cls, dropout=p) for p in (0.0, 0.5)]
    assert pair[0].evaluate(batch)[1] == pair[1].evaluate(batch)[1]
    assert pair[0].train_step(batch, 5, 1.0)["loss"] != pair[1].train_step(batch, 5, 1.0)["loss"]


def test_pytorchs_own_dropout_masks_depend_on_the_steps_seed_alone():
    """Not on what was drawn before: a run that is resumed has the masks of one that was not interrupted."""
    twin = twin_with(PyTorchTwin, dropout=0.5, dropout_masks="native")
    losses = []
    for seed in (5, 5, 6):
        twin.load(small_state(twin))
        losses.append(twin.train_step(small_batch(3), seed, 1.0)["loss"])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("options", [
    {"enc_layers": 0}, {"enc_layers": 0, "pre_norm": True}, {"position_embedding": "learned"}, {"pre_norm": True},
    {"dec_layers": 1}, {"num_queries": 7}, {"dim_feedforward": 96}],
    ids=["no encoder", "no encoder, pre-norm", "learned", "pre-norm", "one decoder layer", "seven queries", "narrow"])
def test_models_of_other_kinds_train_alike_in_both_twins(options):
    """One step: the same losses, every trained weight moves, and the model is not the usual one."""
    pair = [twin_with(cls, **options) for cls in (JittorTwin, PyTorchTwin)]
    logs = [twin.train_step(small_batch(3), 5, 1.0) for twin in pair]
    for name, value in logs[1].items():
        assert logs[0][name] == pytest.approx(value, rel=2e-4 if name == "grad_norm" else 5e-6, abs=5e-6), name
    shapes = [{n: v.shape for n, v in twin.state().model.items()} for twin in (*pair, twin_with(PyTorchTwin))]
    assert shapes[0] == shapes[1] != shapes[2]
    if "enc_layers" in options:
        assert not any("encoder.layers" in n for n in shapes[0])
