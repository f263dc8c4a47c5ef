"""Steps in parts, moving averages and frozen parts, in both twins."""

import numpy as np
import pytest
from small import NUM_CLASSES, SMALLER, WITH_MASKS, small_batch, small_state

from detr_jittor.errors import DetrError
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.twin import seeding
from detr_jittor.twin.parts import added, parts, share
from detr_jittor.twin.processes import Processes
from detr_jittor.twin.schedule import average_decay
from detr_jittor.types import State

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip  (jittor first)

pytestmark = pytest.mark.slow

TWINS = pytest.mark.parametrize("cls", [JittorTwin, PyTorchTwin], ids=["jittor", "pytorch"])
STILL = {"dropout": 0.0, "lr": 1e-3, "lr_backbone": 1e-3, "clip_max_norm": 0.0}


def twin_with(cls, config, **options):
    twin = cls(config.replace(**STILL).replace(**options), NUM_CLASSES)
    twin.load(small_state(twin))
    return twin


def close(one: dict, other: dict, tolerance: float) -> None:
    """Arrays under the same names, whose largest difference is small beside their root mean square, or beside the usual
    one where theirs is less: gradients that are zero but for rounding are of no size to compare with."""
    assert one.keys() == other.keys()
    scales = {n: np.sqrt(np.mean(np.square(v, dtype=np.float64))) for n, v in other.items()}
    usual = float(np.median(list(scales.values())))
    for name in one:
        scale = max(scales[name], usual)
        assert np.abs(one[name] - other[name]).max() <= tolerance * scale, name


@TWINS
@pytest.mark.parametrize("config, empty", [(SMALLER, None), (SMALLER, 0), (WITH_MASKS, None)],
                         ids=["boxes", "boxes of one part", "masks"])
def test_two_parts_are_one_batch(cls, config, empty):
    """Losses, gradients (as AdamW's first moments keep them) and what is logged; also where a part has no objects.

    Measured: losses within 3e-7 and gradients within 2e-5 of one batch, in both twins.
    """
    batch = small_batch(3, masks=config.model.masks)
    if empty is not None:
        target = batch.targets[empty]
        target.labels, target.boxes = target.labels[:0], target.boxes[:0]
        target.masks = None if target.masks is None else target.masks[:0]
    whole, halves = twin_with(cls, config, batch_size=2), twin_with(cls, config, batch_size=1, accumulate=2)
    wanted, found = whole.train_step(batch, 5, 1.0), halves.train_step(batch, 5, 1.0)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=2e-6 if name != "grad_norm" else 2e-5, abs=2e-6), name
    gradients = [{n: m for n, (m, _) in twin.state().optimizer.items()} for twin in (halves, whole)]
    close(*gradients, tolerance=2e-4)
    assert halves.state().steps == 1


@TWINS
def test_a_step_without_objects_in_parts(cls):
    batch = small_batch(3)
    for target in batch.targets:
        target.labels, target.boxes = target.labels[:0], target.boxes[:0]
    logs = [twin_with(cls, SMALLER, batch_size=size, accumulate=2 // size).train_step(batch, 5, 1.0) for size in (2, 1)]
    assert logs[1] == pytest.approx(logs[0], rel=1e-5, abs=1e-6) and logs[0]["class_error"] == 100


@TWINS
def test_a_part_that_is_not_finite_updates_nothing(cls):
    twin = twin_with(cls, SMALLER, batch_size=1, accumulate=2)
    before, batch = twin.state(), small_batch(3)
    batch.targets[1].boxes[0, 0] = np.nan  # not in the picture: oneDNN's ReLU makes 0 of a NaN
    with pytest.raises(DetrError, match="diverged"):
        twin.train_step(batch, 5, 1.0)
    after = twin.state()
    assert all(np.array_equal(after.model[n], before.model[n]) for n in after.model) and after.steps == 0
    healthy = twin.train_step(small_batch(3), 5, 1.0)  # and leaves nothing behind for the next step
    fresh = twin_with(cls, SMALLER, batch_size=1, accumulate=2).train_step(small_batch(3), 5, 1.0)
    assert healthy["grad_norm"] == pytest.approx(fresh["grad_norm"], rel=1e-5)


class Spoiled(Processes):
    """What it is to average comes back as no number: the losses of a step, or its gradients."""

    def __init__(self, what: str):
        self.what = what

    def mean_of(self, numbers):
        return {**numbers, "loss": np.nan} if self.what == "loss" else numbers

    def average(self, tensors):
        return [t * np.nan for t in tensors] if self.what == "grad_norm" else tensors


@TWINS
@pytest.mark.parametrize("what", ["loss", "grad_norm"])
def test_a_step_that_is_not_finite_updates_nothing(cls, what):
    twin = twin_with(cls, SMALLER, ema=True)
    twin.train_step(small_batch(2), 4, 1.0)  # from here on the averages are not the weights
    before = twin.state()
    twin.processes = twin.optimizer.processes = Spoiled(what)
    assert np.isnan(twin.train_step(small_batch(3), 5, 1.0)[what])
    after = twin.state()
    assert all(np.array_equal(after.model[n], before.model[n]) for n in after.model) and after.steps == 1
    assert all(np.array_equal(after.average[n], before.average[n]) for n in after.average) and after.average


def test_parts_in_both_twins_with_dropout():
    """Each part has dropout masks of its own, the same in both twins."""
    pair = [twin_with(cls, SMALLER, batch_size=1, accumulate=2, dropout=0.1, lr=1e-4, lr_backbone=1e-5,
                      clip_max_norm=0.1) for cls in (JittorTwin, PyTorchTwin)]
    for step in range(3):
        logs = [twin.train_step(small_batch(step), seeding.step_seed(1, step), 1.0) for twin in pair]
        assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=5e-6)
    seeds = [seed for _, _, seed in parts(small_batch(0), 1, 7)]
    assert seeds[0] == 7 and len(set(seeds)) == 2


def test_what_parts_share():
    batch = small_batch(3)
    sizes = [len(t.labels) for t in batch.targets]
    assert [rest for _, rest, _ in parts(batch, 1, 0)] == [sizes[1:], sizes[:1]]
    ((whole, rest, seed),) = parts(batch, 2, 9)
    assert len(whole) == 2 and rest == [] and seed == 9
    assert share([3, 1], [4]) == 0.5 and share([2], []) == 1 and share([0], [0, 0]) == pytest.approx(1 / 3)
    assert added([{"a": 1.0}, {"a": 2.5}]) == {"a": 3.5}


@TWINS
def test_moving_averages(cls):
    """Their definition, over three steps; evaluation sees them and leaves the weights as they were."""
    twin = twin_with(cls, SMALLER, ema=True, dropout=0.1)
    expected = {n: v.astype(np.float64) for n, v in twin.state().model.items() if n in twin.trained}
    for step in range(3):
        twin.train_step(small_batch(step), step, 1.0)
        weights, decay = twin.state().model, average_decay(step + 1)
        expected = {n: decay * v + (1 - decay) * weights[n] for n, v in expected.items()}
    state = twin.state()
    close(state.average, expected, tolerance=1e-5)
    batch = small_batch(7)
    plain = twin.predict(batch).logits
    with twin.averaged():
        seen = twin.predict(batch).logits
    assert np.array_equal(twin.predict(batch).logits, plain) and not np.array_equal(seen, plain)
    other = twin_with(cls, SMALLER)
    other.load(State(state.averaged, {}))
    assert np.array_equal(other.predict(batch).logits, seen)
    with other.averaged():  # that has none
        assert np.array_equal(other.predict(batch).logits, seen)
    after = twin.state()
    for kind in ("model", "average"):
        one, two = getattr(after, kind), getattr(state, kind)
        assert all(np.array_equal(one[n], two[n]) for n in two)


@pytest.mark.parametrize("first", [0, 1], ids=["from jittor", "from pytorch"])
def test_training_goes_on_after_averages_were_seen_and_in_the_other_twin(first):
    """Weights stay trainable after an evaluation; a state with averages is taken over by either twin."""
    classes = (JittorTwin, PyTorchTwin)
    source, target = (twin_with(cls, SMALLER, ema=True, dropout=0.1) for cls in (classes[first], classes[1 - first]))
    for step in range(2):
        source.train_step(small_batch(step), step, 1.0)
        with source.averaged():
            source.predict(small_batch(7))
    same = twin_with(classes[first], SMALLER, ema=True, dropout=0.1)
    for twin in (target, same):
        twin.load(source.state())
        taken, given = twin.state().average, source.state().average
        assert all(np.array_equal(taken[n], given[n]) for n in given) and len(given) == len(source.trained)
    logs = [twin.train_step(small_batch(2), 2, 1.0) for twin in (source, same, target)]
    assert logs[0] == logs[1] and logs[2]["loss"] == pytest.approx(logs[0]["loss"], rel=5e-6)
    states = [twin.state() for twin in (source, same)]
    assert all(np.array_equal(states[0].average[n], states[1].average[n]) for n in states[0].average)
    moved = {n for n in source.trained if not np.array_equal(states[0].model[n], small_state(source).model[n])}
    assert moved == set(source.trained)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_no_gradient_is_computed_for_what_is_not_trained(norm):
    """In Jittor also after a load and after averages were seen: what is handed over may bring its own mark along."""
    twin = twin_with(JittorTwin, SMALLER, ema=True, backbone_norm=norm)
    twin.train_step(small_batch(3), 5, 1.0)
    with twin.averaged():
        pass
    weights = twin.model.state_dict()
    assert {n for n, v in weights.items() if not v.is_stop_grad()} == set(twin.trained) < set(weights)


def test_averages_of_running_statistics():
    twin = twin_with(PyTorchTwin, SMALLER, ema=True, backbone_norm="batch")
    assert "backbone.0.body.bn1.running_mean" in twin.state().average
    assert not any("running" in n for n in twin_with(PyTorchTwin, SMALLER, ema=True).state().average)


@TWINS
@pytest.mark.parametrize("freeze, frozen", [
    ("backbone", ("backbone.0.",)), ("transformer", ("backbone.", "transformer.", "input_proj."))])
def test_what_is_frozen_does_not_move(cls, freeze, frozen):
    twin = twin_with(cls, SMALLER, freeze=freeze)
    before = twin.state().model
    for step in range(2):
        twin.train_step(small_batch(step), step, 1.0)
    after = twin.state().model
    moved = {n for n in after if not np.array_equal(after[n], before[n])}
    assert moved == {n for n in after if not n.startswith(frozen)} and "class_embed.bias" in moved
    assert twin.n_parameters == sum(after[n].size for n in moved)
