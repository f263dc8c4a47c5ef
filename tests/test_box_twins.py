"""The box decoder in both twins: from the same weights on the same batches they say and learn the same."""

import numpy as np
import pytest
from small import NUM_CLASSES, SMALL, begin_alike, both_twins, small_batch, small_state

from detr_jittor.align.stages.gradients import norm
from detr_jittor.config.check import check
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import part
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.reference import losses as ref
from detr_jittor.reference.boxes import corners, iou
from detr_jittor.twin import seeding
from detr_jittor.twin.proposals import standing_for

import torch  # isort: skip  (after jittor)
from detr_jittor.pt.twin import PyTorchTwin  # isort: skip

pytestmark = pytest.mark.slow

BOX = SMALL.replace(decoder="box")
PARTS = {"all parts": {}, "pre-norm, three stages": {"pre_norm": True, "backbone_stages": 3},
         "no conditional": {"no_conditional": True}, "no sampling": {"no_sampling": True},
         "no focal": {"no_focal": True}, "no denoising": {"denoising": 0}, "one layer": {"dec_layers": 1},
         "quality, own heads": {"class_loss": "quality", "layer_heads": "own", "dec_layers": 3},
         "groups": {"query_groups": 3, "class_loss": "quality"},
         "groups alone, no focal": {"query_groups": 2, "denoising": 0, "no_focal": True},
         "two stages": {"query_boxes": "proposals", "query_groups": 2, "class_loss": "quality", "layer_heads": "own"},
         "two stages, one map": {"query_boxes": "proposals", "no_sampling": True, "denoising": 0},
         "two stages, fewer places than queries": {"query_boxes": "proposals", "num_queries": 60},
         "no focal, own heads": {"no_focal": True, "layer_heads": "own"},
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
    """Dropout and denoising on, each step from the same state. Measured: losses within 3e-7, gradient norms 4e-6.

    The gradient jumps where a ReLU's input is 0, and with DC5 and batch norm one lies within 2e-6 of it, so that the
    last digit of an instruction set decides: PyTorch's gradients are taken on Jittor's sides.
    """
    twins = begin_alike(list(pair))
    captures = [part(twin.name, "capture") for twin in twins]
    for step in range(6):
        batch, seed = small_batch(step), seeding.step_seed(42, step)
        twins[1].load(twins[0].state())
        indices = captures[0].matching(twins[0], batch, seed)[1]
        jittor = captures[0].gradients(twins[0], batch, indices, seed)
        pytorch = captures[1].gradients(twins[1], batch, indices, seed, jittor.kinks.sides)
        assert norm(jittor.of) == pytest.approx(norm(pytorch.of), rel=2e-5)
        logs = [twin.train_step(batch, seed, 1.0) for twin in twins]
        assert list(logs[0]) == list(logs[1])
        for name in logs[1].keys() - {"grad_norm"}:
            assert logs[0][name] == pytest.approx(logs[1][name], rel=2e-6, abs=2e-6), (step, name)
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


def test_a_group_of_queries_is_a_detector_of_its_own():
    """In evaluation there is one. In training, groups that are alike each have the losses of one alone; and a change of
    another group does not reach the first, nor the copies."""
    for cls in (JittorTwin, PyTorchTwin):
        logs = []
        for groups, moved in ((1, 0), (3, 0), (3, 1)):
            twin = cls(BOX.replace(dropout=0.0, query_groups=groups), NUM_CLASSES)
            state = small_state(twin)
            for name in ("content", "box") if groups > 1 else ():
                own, others = (state.model[f"{kind}_{name}.weight"] for kind in ("query", "group"))
                others[...] = np.tile(own, (groups - 1, 1)) + moved
            twin.load(state)
            assert twin.predict(small_batch(3)).boxes.shape == (2, 20, 4)
            logs.append(twin.train_step(small_batch(3), 3, 1.0))
        for name in logs[0].keys() - {"grad_norm"}:
            assert logs[1][name] == pytest.approx(logs[0][name], rel=2e-6, abs=1e-6), name
        assert logs[2]["loss_giou_dn"] == pytest.approx(logs[0]["loss_giou_dn"], rel=2e-6)
        assert logs[2]["loss_giou"] != pytest.approx(logs[0]["loss_giou"], rel=1e-3)


@pytest.mark.parametrize("framework", ["jittor", "pytorch"])
def test_the_quality_loss_by_hand(framework):
    """Two queries, three classes; the second query has an object of class 1, and half of its box is right."""
    twin = both_twins(BOX.replace(class_loss="quality"))[framework == "pytorch"]
    array, criterion = {"jittor": jt.array, "pytorch": torch.as_tensor}[framework], twin.criterion
    logits = np.array([[0.5, -1.0, 2.0], [-0.3, 0.8, -2.0]], np.float32).reshape(1, 1, 2, 3)
    quality = criterion.quality(array(np.float32([[0.5]])), np.array([1]), (1, 1, 2))
    assert twin.numpy(quality).tolist() == [[[0.0, 0.5]]]
    criterion.num_classes = 3
    found = criterion.loss_labels(array(logits), np.array([[[3, 1]]]), quality, 0.0, 2.0, twin.processes)
    p, goal = 1 / (1 + np.exp(-logits.astype(np.float64).reshape(2, 3))), 0.5**1.5
    wrong = -(p**1.5) * np.log(1 - p)
    right = -goal * np.log(p[1, 1]) - (1 - goal) * np.log(1 - p[1, 1])
    assert twin.numpy(found)[0] == pytest.approx((wrong.sum() - wrong[1, 1] + right) / 2, rel=1e-6)


@pytest.mark.parametrize("framework", ["jittor", "pytorch"])
@pytest.mark.parametrize("class_loss", ["focal", "quality"])
def test_the_losses_of_proposals_against_the_oracle(framework, class_loss):
    """Every place has a class to say, and those that stand for an object a box; in the padding nothing."""
    options = {"query_boxes": "proposals", "backbone_stages": 3, "class_loss": class_loss}
    twin = begin_alike(both_twins(BOX.replace(**options)))[framework == "pytorch"]
    batch = small_batch(5)
    twin.prepare(None)
    with twin.no_grad():
        outputs = twin.forward(batch)
        names, values, _ = twin.losses(outputs, batch, twin.match(outputs, batch))
        found = dict(zip(names, twin.numpy(values)))
        proposed = outputs[2]
        logits, boxes, own = (twin.numpy(x).astype(np.float64) for x in (proposed.logits, proposed.boxes, proposed.own))
    boxes = 1 / (1 + np.exp(-boxes))
    places, objects = standing_for(batch.targets, own[..., :2])
    hidden = batch.mask[:, ::16, ::16].reshape(2, 4 * 6)
    assert hidden.sum() == 4 and len(places) > 3
    assert (logits[hidden] == -1e4).all() and (np.abs(logits[~hidden]) < 20).all()
    assert not hidden.reshape(-1)[places].any()
    labels, wanted = (np.concatenate([getattr(t, name) for t in batch.targets]) for name in ("labels", "boxes"))
    classes = np.full(logits.shape[:2], NUM_CLASSES)
    classes.reshape(-1)[places] = labels[objects]
    matched = boxes.reshape(-1, 4)[places]
    divisor = len(labels)
    quality = np.zeros(logits.shape[:2])
    quality.reshape(-1)[places] = [iou(corners(a), corners(b))[0, 0] for a, b in zip(matched, wanted[objects])]
    of_classes = ref.quality_classes(logits[~hidden][None], classes[~hidden][None], quality[~hidden][None], divisor) \
        if class_loss == "quality" else ref.focal_classes(logits[~hidden], classes[~hidden], divisor)
    assert found["loss_ce_enc"] == pytest.approx(of_classes, rel=2e-6)
    assert found["loss_bbox_enc"] == pytest.approx(ref.box_l1(matched, wanted[objects], divisor), rel=2e-6)
    assert found["loss_giou_enc"] == pytest.approx(ref.box_giou(matched, wanted[objects], divisor), rel=2e-6)


@pytest.mark.parametrize("framework", ["jittor", "pytorch"])
def test_queries_begin_at_the_best_places(framework):
    """In the order of the places, with the box that the place says and with what is seen there; where there are no more
    places, with most of the picture."""
    options = {"query_boxes": "proposals", "num_queries": 22, "backbone_stages": 3}
    twin = begin_alike(both_twins(BOX.replace(**options)))[framework == "pytorch"]
    batch = small_batch(5)
    twin.prepare(None)
    with twin.no_grad():
        proposed = twin.forward(batch)[2]
        seen, first = (twin.numpy(x) for x in twin.model.proposals.best(proposed))
        features, logits, boxes, _ = (twin.numpy(x) for x in proposed)
    for of_picture, said, at, there_is, shown in zip(logits.max(-1), boxes, first, features, seen):
        there = np.flatnonzero(of_picture > -1e3)
        chosen = sorted(sorted(there, key=lambda place: -of_picture[place])[:22])
        assert np.array_equal(at[:len(chosen)], said[chosen]) and np.array_equal(shown[:len(chosen)], there_is[chosen])
        assert (at[len(chosen):] == np.float32([0, 0, 1.4, 1.4])).all() and not shown[len(chosen):].any()
        assert len(chosen) == min(len(there), 22)
    assert {np.count_nonzero(of_picture > -1e3) for of_picture in logits.max(-1)} == {20, 24}


@pytest.mark.parametrize("options, reason", [
    ({"masks": True, "hidden_dim": 128, "nheads": 8}, "--masks does not go with --decoder box"),
    ({"position_embedding": "learned"}, "between the places"), ({"hidden_dim": 48, "nheads": 4}, "divisible by 32"),
    ({"decoder": "detr", "no_sampling": True}, "a part of the box decoder"), ({"denoising": -1}, "is negative"),
    ({"query_groups": 0}, "less than 1"),
    ({"query_boxes": "proposals", "no_focal": True}, "--no_focal leaves out")])
def test_what_cannot_be_is_refused_with_the_reason(options, reason):
    check(BOX)
    with pytest.raises(DetrError, match=reason):
        check(BOX.replace(**options))
