"""What a DETR can do besides learning, the box decoder can too: resume, parts of a step, averages, freezing, files,
other classes, attention, ONNX. Refusals are in test_box_twins.py."""

from pathlib import Path

import numpy as np
import pytest
from small import NUM_CLASSES, SMALL, small_batch, small_state

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.architecture import num_classes, options_of
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.engine.transfer import fitted
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.predict.export import disagreement, package, session
from detr_jittor.types import Batch, Classes, State

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip  (jittor first)

TWINS = pytest.mark.parametrize("cls", [JittorTwin, PyTorchTwin], ids=["jittor", "pytorch"])
BOX = SMALL.replace(decoder="box", dropout=0.0)


def twin_with(cls, **options):
    twin = cls(BOX.replace(**options), NUM_CLASSES)
    twin.load(small_state(twin))
    return twin


def same(a: State, b: State) -> bool:
    return all(np.array_equal(a.model[n], b.model[n]) for n in a.model)


@TWINS
def test_a_resumed_run_is_the_uninterrupted_one(cls):
    """The noise depends on the number of steps that are done, which is in the state."""
    whole, first = twin_with(cls), twin_with(cls)
    for step in range(4):
        whole.train_step(small_batch(step), step, 1.0)
        if step < 2:
            first.train_step(small_batch(step), step, 1.0)
    second = cls(BOX, NUM_CLASSES)
    second.load(first.state())
    for step in (2, 3):
        second.train_step(small_batch(step), step, 1.0)
    assert same(whole.state(), second.state())


@TWINS
@pytest.mark.parametrize("model", [{}, {"query_groups": 3, "no_focal": True}, {"query_boxes": "proposals"}], ids=str)
def test_parts_of_a_step_add_up_to_it(cls, model):
    batch, logs = small_batch(3), []
    for options in ({}, {"accumulate": 2, "batch_size": 1}):
        logs.append(twin_with(cls, **model, **options).train_step(batch, 3, 1.0))
    for name, value in logs[0].items():
        if name != "class_error":
            assert logs[1][name] == pytest.approx(value, rel=2e-5, abs=1e-6), name


@TWINS
@pytest.mark.parametrize("query_boxes", ["learned", "proposals"])
def test_a_picture_without_objects_trains(cls, query_boxes):
    batch = small_batch(3)
    for target in batch.targets:
        target.labels, target.boxes = target.labels[:0], target.boxes[:0]
    log = twin_with(cls, query_boxes=query_boxes).train_step(batch, 3, 1.0)
    assert np.isfinite(log["loss"]) and log["grad_norm"] > 0 and log["loss_bbox_dn"] == 0
    assert log.get("loss_bbox_enc", 0) == 0 and (log.get("loss_ce_enc", 0) > 0) == (query_boxes == "proposals")


@TWINS
def test_averages_and_freezing(cls):
    twin = twin_with(cls, ema=True, freeze="transformer")
    before = twin.state()
    twin.train_step(small_batch(3), 3, 1.0)
    after = twin.state()
    moved = {n.split(".")[0] for n in after.model if not np.array_equal(after.model[n], before.model[n])}
    assert moved == {"query_content", "query_box", "label_embed", "class_score", "box_delta"}
    assert not np.array_equal(after.average["query_box.weight"], after.model["query_box.weight"])


@TWINS
def test_where_it_looks(cls):
    batch = small_batch(3)
    batch.mask[:] = False  # no padding: all samples lie on the map, but for those beyond the picture
    twin = twin_with(cls)
    outputs, attention = twin.attend(batch)
    assert attention.decoder.shape == (2, 20, 2, 3) and attention.encoder.shape == (2, 2, 3, 2, 3)
    assert (attention.decoder.sum((2, 3)) < 1.001).all() and attention.decoder.sum((2, 3)).mean() > 0.3
    assert np.array_equal(outputs.boxes, twin.predict(batch).boxes)
    everywhere = twin_with(cls, no_sampling=True).attend(batch)[1]
    assert np.allclose(everywhere.decoder.sum((2, 3)), 1, atol=1e-5)


def test_both_twins_look_at_the_same_places():
    pair = [twin_with(cls).attend(small_batch(3))[1].decoder for cls in (JittorTwin, PyTorchTwin)]
    assert np.abs(pair[0] - pair[1]).max() < 1e-5


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_files_of_all_formats(suffix, tmp_path: Path):
    twin = twin_with(PyTorchTwin)
    file = tmp_path / f"checkpoint{suffix}"
    store.save(file, Checkpoint(twin.state(), config=BOX))
    found = store.load(file)
    assert num_classes(found) == NUM_CLASSES
    other = JittorTwin(BOX, NUM_CLASSES)
    other.load(State(found.state.model, {}))
    assert same(twin.state(), other.state())


def test_the_shapes_tell_the_parts():
    options = options_of(twin_with(PyTorchTwin).state().model, heads=4)
    assert {name: options[name] for name in ("decoder", "no_focal", "no_sampling", "no_conditional", "denoising")} == {
        "decoder": "box", "no_focal": False, "no_sampling": False, "no_conditional": False, "denoising": 5}
    other = options_of(twin_with(PyTorchTwin, no_focal=True, no_sampling=True, no_conditional=True,
                                 denoising=0).state().model, heads=4)
    assert other["no_focal"] and other["no_sampling"] and other["no_conditional"] and other["denoising"] == 0
    assert options["layer_heads"] == other["layer_heads"] == "shared"
    assert options_of(twin_with(PyTorchTwin, layer_heads="own").state().model, heads=4)["layer_heads"] == "own"
    assert options["query_groups"] == 1 and options["query_boxes"] == "learned"
    two_stage = options_of(twin_with(PyTorchTwin, query_boxes="proposals").state().model, heads=4)
    assert two_stage["query_boxes"] == "proposals"
    assert options_of(twin_with(PyTorchTwin, query_groups=3).state().model, heads=4)["query_groups"] == 3


def classes(*names: str) -> Classes:
    return Classes(tuple(range(len(names))), names, tuple(range(len(names))), len(names))


def test_other_classes_keep_what_is_known_by_name():
    checkpoint = Checkpoint(twin_with(PyTorchTwin).state(), classes=classes(*(f"kind {i}" for i in range(NUM_CLASSES))))
    new = PyTorchTwin(BOX, 3)
    own = new.state().model
    state, remarks = fitted("box.pth", checkpoint, own, classes("bird", "kind 7", "kind 2"))
    new.load(state)
    given = checkpoint.state.model
    for name in ("class_score.weight", "class_score.bias", "label_embed.weight"):
        assert np.array_equal(state.model[name][1:], given[name][[7, 2]]) and len(state.model[name]) == 3
        assert np.array_equal(state.model[name][0], own[name][0])
    assert "2 kept by name (kind 7, kind 2)" in remarks[1] and "no object" not in remarks[1]


def test_a_head_for_each_layer_begins_as_the_one_of_the_file():
    """And a file that has one for each layer keeps its rows in all of them."""
    names = classes(*(f"kind {i}" for i in range(NUM_CLASSES)))
    new = PyTorchTwin(BOX.replace(layer_heads="own"), 3)
    for given in (twin_with(PyTorchTwin), twin_with(PyTorchTwin, layer_heads="own")):
        weights, shared = given.state().model, given.config.model.layer_heads == "shared"
        state, remarks = fitted("box.pth", Checkpoint(given.state(), classes=names), new.state().model,
                                classes("bird", "kind 7", "kind 2"))
        new.load(state)
        source = "class_score.weight" if shared else "class_heads.0.weight"
        assert np.array_equal(state.model["class_heads.0.weight"][1:], weights[source][[7, 2]])
        source = "box_delta.layers.1.bias" if shared else "box_heads.0.layers.1.bias"
        assert np.array_equal(state.model["box_heads.0.layers.1.bias"], weights[source])
        assert any("heads of the decoder layers" in remark for remark in remarks) == shared


def test_weights_of_a_detr_are_a_start():
    """Backbone and encoder as they are, of the decoder what has the same name and shape; the rest is told."""
    detr = PyTorchTwin(SMALL, NUM_CLASSES)
    given = small_state(detr).model
    new = PyTorchTwin(BOX, 3)
    own = new.state().model
    state, remarks = fitted("detr.pth", Checkpoint(State(given, {})), own, classes("a", "b", "c"))
    new.load(state)
    for name in ("backbone.0.body.conv1.weight", "transformer.encoder.layers.1.linear1.weight", "input_proj.weight",
                 "transformer.decoder.layers.1.self_attn.in_proj_weight"):
        assert np.array_equal(state.model[name], given[name]), name
    for name in ("class_score.weight", "box_delta.layers.0.weight", "query_box.weight",
                 "transformer.maps.0.conv.weight"):
        assert np.array_equal(state.model[name], own[name]), name
    assert "another decoder" in remarks[1] and "query_box" in remarks[1] and "transformer.maps" in remarks[1]
    back, remarks = fitted("box.pth", Checkpoint(new.state()), detr.state().model, classes("a", "b", "c"))
    detr.load(back)
    assert "another decoder" in remarks[1]


def test_copies_can_come_and_go():
    given = twin_with(PyTorchTwin).state()
    without, with_copies = PyTorchTwin(BOX.replace(denoising=0), NUM_CLASSES), PyTorchTwin(BOX, NUM_CLASSES)
    names = classes(*(f"kind {i}" for i in range(NUM_CLASSES)))
    state, remarks = fitted("box.pth", Checkpoint(given, classes=names), without.state().model, names)
    without.load(state)
    assert any("label_embed.weight: left out" in remark for remark in remarks)
    state, remarks = fitted("box.pth", Checkpoint(without.state(), classes=names), with_copies.state().model, names)
    with_copies.load(state)
    assert any("label_embed.weight: starts anew" in remark for remark in remarks)


@pytest.mark.parametrize("groups", [1, 2])
def test_two_stages_can_come_and_go(groups):
    """The decoder stays, what tells its queries where to begin is another thing. Classes keep their rows there too."""
    one, two = (twin_with(PyTorchTwin, query_boxes=boxes, query_groups=groups).state()
                for boxes in ("learned", "proposals"))
    names = classes(*(f"kind {i}" for i in range(NUM_CLASSES)))
    for given, wanted in ((one, "proposals"), (two, "learned")):
        new = PyTorchTwin(BOX.replace(query_boxes=wanted, query_groups=groups), NUM_CLASSES)
        state, remarks = fitted("box.pth", Checkpoint(given, classes=names), new.state().model, names)
        new.load(state)
        assert [remark for remark in remarks if "begin" in remark] == [
            f"the boxes at which queries begin: start anew, as --query_boxes is {wanted}"]
        assert not any("groups" in remark for remark in remarks)
        assert np.array_equal(state.model["query_content.weight"], given.model["query_content.weight"])
    new = PyTorchTwin(BOX.replace(query_boxes="proposals", query_groups=groups), 3)
    state, _ = fitted("box.pth", Checkpoint(two, classes=names), new.state().model, classes("bird", "kind 7", "kind 2"))
    new.load(state)
    for name in ("class_score.weight", "proposals.class_score.weight", "proposals.class_score.bias"):
        assert np.array_equal(state.model[name][1:], two.model[name][[7, 2]]), name


@pytest.mark.parametrize("groups, said", [(1, "left out, as --query_groups is 1"), (2, "start anew"), (3, "")])
def test_groups_of_queries_can_come_and_go(groups, said):
    """The first group is the detector and stays."""
    given = twin_with(PyTorchTwin, query_groups=3).state()
    new = PyTorchTwin(BOX.replace(query_groups=groups), NUM_CLASSES)
    names = classes(*(f"kind {i}" for i in range(NUM_CLASSES)))
    state, remarks = fitted("box.pth", Checkpoint(given, classes=names), new.state().model, names)
    new.load(state)
    assert [remark for remark in remarks if "groups" in remark] == (
        [f"groups of queries besides the first: {said}"] if said else [])
    assert np.array_equal(new.state().model["query_box.weight"], given.model["query_box.weight"])
    if groups == 3:
        assert np.array_equal(new.state().model["group_box.weight"], given.model["group_box.weight"])


@pytest.mark.parametrize("options", [{"layer_heads": "shared"}, {"layer_heads": "own"}, {"query_groups": 2},
                                     {"query_boxes": "proposals"},
                                     {"query_boxes": "proposals", "num_queries": 60}], ids=str)
def test_onnx_agrees(options):
    twin = twin_with(PyTorchTwin, **options)
    content = package("detr_jittor.pt.export").to_onnx(twin.model, False)
    for b, h, w in ((1, 75, 133), (2, 128, 96)):
        images = np.random.default_rng(h).standard_normal((b, 3, h, w), np.float32)
        mask = np.zeros((b, h, w), bool)
        images[-1, :, h // 2:], mask[-1, h // 2:] = 0, True
        assert disagreement(session(content), twin, Batch(images, mask, [])) < 1e-5
