"""Both twins from the same weights on the same batches: they must train alike and read each other's states."""

import numpy as np
import pytest
from small import NUM_CLASSES, SMALL, begin_alike, both_twins, relative, small_batch, small_state

from detr_jittor.config.options import Config
from detr_jittor.errors import DetrError
from detr_jittor.jt.detr import DETR as JittorDETR
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.twin import processor, seeding
from detr_jittor.twin.parameters import is_trained
from detr_jittor.types import State

from detr_jittor.pt.detr import DETR as PyTorchDETR  # isort: skip  (jittor first)
from detr_jittor.pt.twin import PyTorchTwin  # isort: skip


@pytest.fixture(scope="module")
def twins():
    return both_twins(SMALL)


@pytest.fixture
def pair(twins):
    return begin_alike(twins)


def train(twin, steps: range) -> list[dict[str, float]]:
    return [twin.train_step(small_batch(step), seeding.step_seed(42, step), 1.0) for step in steps]


def test_twenty_steps_have_the_same_losses(pair):
    """Dropout on. Measured: losses within 2e-7, gradient norms within 4e-6."""
    logs = list(zip(*(train(twin, range(20)) for twin in pair)))
    for jittor, pytorch in logs:
        assert list(jittor) == list(pytorch)
        for name in pytorch:
            tolerance = 2e-5 if name == "grad_norm" else 2e-6
            assert jittor[name] == pytest.approx(pytorch[name], rel=tolerance, abs=2e-6), name
    assert logs[-1][1]["loss"] != logs[0][1]["loss"]
    assert {"loss_ce", "loss_ce_0", "loss_bbox", "loss_giou_0", "class_error", "cardinality_error"} <= set(logs[0][0])


def test_all_trained_weights_move_and_no_others(pair):
    for twin in pair:
        before = twin.state()
        train(twin, range(2))
        after = twin.state()
        moved = {n for n, v in after.model.items() if not np.array_equal(v, before.model[n])}
        assert moved == set(twin.trained) == {n for n in before.model if is_trained(n, SMALL)}
        assert twin.n_parameters == sum(before.model[n].size for n in moved)
        assert after.steps == before.steps + 2


def test_jittors_gradients_go_with_their_step(pair):
    """Kept until the next one, they would be as large as the model again. PyTorch's are freed when that begins."""
    train(pair[0], range(1))
    assert pair[0].optimizer.added == []


@pytest.mark.parametrize("first", [0, 1], ids=["from jittor", "from pytorch"])
def test_a_state_goes_on_in_the_other_twin(pair, first):
    """Weights, moments and step count of one twin, loaded by the other, give the same next steps."""
    source, target = pair[first], pair[1 - first]
    train(source, range(3))
    target.load(source.state())
    ours, theirs = source.state(), target.state()
    assert ours.steps == theirs.steps == 3
    assert ours.optimizer.keys() == theirs.optimizer.keys() == set(source.trained)
    assert all(np.array_equal(ours.model[n], theirs.model[n]) for n in ours.model)
    assert all(np.array_equal(a, b) for n in ours.optimizer for a, b in zip(ours.optimizer[n], theirs.optimizer[n]))
    for a, b in zip(train(source, range(3, 6)), train(target, range(3, 6))):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-6)


def test_evaluation_and_prediction_agree(pair):
    """Measured: logits within 2e-6."""
    batch = small_batch(7)
    (outputs, losses), (wanted, wanted_losses) = (twin.evaluate(batch) for twin in pair)
    for name in ("logits", "boxes"):
        assert relative(getattr(outputs, name), getattr(wanted, name)) < 2e-5
        for twin, evaluated in zip(pair, (outputs, wanted)):
            assert np.array_equal(getattr(twin.predict(batch), name), getattr(evaluated, name))
    assert losses.keys() == wanted_losses.keys()
    assert all(losses[n] == pytest.approx(wanted_losses[n], rel=2e-6, abs=2e-6) for n in losses)


def test_a_state_of_another_model_is_refused_whole(pair):
    for twin in pair:
        before = twin.state()
        wrong = {**before.model, "class_embed.bias": np.zeros(5, np.float32), "strange": np.zeros(1, np.float32)}
        del wrong["query_embed.weight"]
        told = r"missing.*query_embed\.weight.*surplus.*strange.*class_embed\.bias \(5,\)"
        with pytest.raises(DetrError, match=told):
            twin.load(State(wrong, {}))
        assert all(np.array_equal(v, before.model[n]) for n, v in twin.state().model.items())


def test_weights_that_are_not_finite_are_refused(pair):
    for twin in pair:
        weights = dict(twin.state().model)
        weights["backbone.0.body.conv1.weight"] = np.full_like(weights["backbone.0.body.conv1.weight"], np.nan)
        with pytest.raises(DetrError, match=r"not finite \(1\): backbone\.0\.body\.conv1\.weight"):
            twin.load(State(weights, {}))


@pytest.mark.parametrize("cls", [JittorDETR, PyTorchDETR], ids=["jittor", "pytorch"])
@pytest.mark.parametrize(("backbone", "trainable", "total"), [
    ("resnet50", 41_302_368, 41_524_768), ("resnet101", 60_242_272, 60_464_672)])
def test_published_parameter_counts(cls, backbone, trainable, total):
    """As the reference code counts: batch norm's tensors are buffers, not parameters; conv1 and layer1 are frozen."""
    config = Config().replace(backbone=backbone, backbone_norm="frozen")
    sizes = {n: int(np.prod(v.shape)) for n, v in cls(config.model, 91).state_dict().items()}
    assert sum(size for n, size in sizes.items() if is_trained(n, config)) == trainable
    everything = config.replace(backbone_norm="batch")  # trains what there is to train, its own norms too
    norms = sum(size for n, size in sizes.items() if is_trained(n, everything) and (".bn" in n or "downsample.1" in n))
    assert sum(size for n, size in sizes.items() if is_trained(n, everything)) - norms == total


def test_bf16_is_no_farther_from_the_truth_than_autocast():
    """Outputs in bf16: Jittor multiplies convolutions and linear layers in bfloat16, autocast attention too."""
    batch, half = small_batch(3), SMALL.replace(precision="bf16")
    if "bf16" not in processor.instruction_set():
        with pytest.raises(DetrError, match="AVX512-BF16"):
            JittorTwin(half, NUM_CLASSES)
        return
    truth = PyTorchTwin(SMALL, NUM_CLASSES)
    state = small_state(truth)
    truth.load(state)
    wanted = truth.predict(batch).logits
    errors = []
    for cls in (JittorTwin, PyTorchTwin):
        twin = cls(half, NUM_CLASSES)
        twin.load(state)
        errors.append(relative(twin.predict(batch).logits, wanted))
        losses = [twin.train_step(batch, step, 1.0)["loss"] for step in range(5)]
        assert losses[-1] < losses[0]
    JittorTwin(SMALL, NUM_CLASSES)  # float32 again, for the tests that follow
    assert 1e-4 < errors[0] < errors[1] < 0.2


def test_a_step_that_is_half_done_is_known(pair, monkeypatch):
    """What the engine saves after an error of the program depends on it: before the update the weights are whole."""
    def fail(*arguments):
        raise ZeroDivisionError

    for twin in pair:
        step = (small_batch(0), seeding.step_seed(42, 0), 1.0)
        twin.train_step(*step)
        assert twin.updates == 1
        for owner, name, updates in ((twin.criterion, "match", 1), (twin.optimizer, "step", None)):
            with monkeypatch.context() as m:
                m.setattr(owner, name, fail)
                with pytest.raises(ZeroDivisionError):
                    twin.train_step(*step)
            assert twin.updates == updates, name
        twin.train_step(*step)
        assert twin.updates == 2
