"""A run that begins with the weights of another: what is kept and what is replaced, what it says, when it ends."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy_twin import NumpyTwin

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.engine.averages import BY_OBJECT, Averages
from detr_jittor.engine.collapse import Collapse
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.expectation import expectation
from detr_jittor.engine.start import WEIGHTS, find_start
from detr_jittor.engine.train import train
from detr_jittor.engine.transfer import fitted, shown, trained_parts
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log
from detr_jittor.types import Batch, Classes, Outputs, State, Target

OURS = Classes.of_categories([{"id": 1, "name": "hedgehog"}, {"id": 2, "name": "Dog"}, {"id": 3, "name": "cat"}])


def model(classes: int, prefix: str = "", seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"class_embed.weight": (classes + 1, 3), "class_embed.bias": (classes + 1,), "query_embed.weight": (5, 3)}
    rooms = {"mask_head.lay1.weight": (4, 4), "bbox_attention.q_linear.weight": (3, 3)} if prefix else {}
    return {**{prefix + n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()},
            **{n: rng.standard_normal(s).astype(np.float32) for n, s in rooms.items()}}


def test_rows_of_the_same_names_are_kept():
    """COCO's head for three classes of which it knows two, by name whatever their ids and case."""
    coco, own = model(91), model(4, seed=1)
    state, remarks = fitted("detr.pth", Checkpoint(State(coco, {})), own, OURS)
    for name in ("class_embed.weight", "class_embed.bias"):
        head = state.model[name]
        assert np.array_equal(head[[2, 3, 4]], coco[name][[18, 17, 91]])  # dog, cat, "no object"
        assert np.array_equal(head[[0, 1]], own[name][[0, 1]])
    assert state.model["query_embed.weight"] is coco["query_embed.weight"]
    assert remarks[0] == "detr.pth: 3 of 3 arrays are taken over"
    assert remarks[1] == ('class head: replaced, 91 → 4 classes; "no object" kept, 2 kept by name (Dog, cat), '
                          "1 start anew (hedgehog)")


def test_the_names_in_the_file_count_before_cocos():
    theirs = Classes.of_categories([{"id": 90, "name": "hedgehog"}])
    old = model(91)
    state, _ = fitted("a.pth", Checkpoint(State(old, {}), classes=theirs), model(4, seed=1), OURS)
    assert np.array_equal(state.model["class_embed.bias"][[1, 4]], old["class_embed.bias"][[90, 91]])


@pytest.mark.parametrize("theirs, told", [
    (OURS, "class head: kept, the 4 classes are the same"),
    (None, "class head: kept, it has as many classes (4), of unknown names")])
def test_the_same_classes_keep_the_head_whole(theirs, told):
    old = model(4)
    state, remarks = fitted("a.pth", Checkpoint(State(old, {}), classes=theirs), model(4, seed=1), OURS)
    assert all(state.model[n] is old[n] for n in old) and remarks[1] == told


def test_a_file_without_a_class_head():
    """The usual file to fine-tune from: the count is that of the arrays that were taken over."""
    old = {name: value for name, value in model(4).items() if "class_embed" not in name}
    own = model(4, seed=1)
    state, remarks = fitted("a.pth", Checkpoint(State(old, {})), own, OURS)
    assert remarks == ["a.pth: 1 of 3 arrays are taken over", "class head: not in the file, starts anew"]
    assert state.model["class_embed.bias"] is own["class_embed.bias"]
    assert state.model["query_embed.weight"] is old["query_embed.weight"]


def test_arrays_of_other_shapes_are_not_counted():
    old = {**model(4), "query_embed.weight": np.zeros((7, 3), np.float32)}
    assert fitted("a.pth", Checkpoint(State(old, {}), classes=OURS), model(4), OURS)[1][0] == (
        "a.pth: 2 of 3 arrays are taken over")


@pytest.mark.parametrize("shape", [(92, 7), (92,), (92, 3, 1)])
def test_a_head_of_another_width_is_left_for_the_strict_loader(shape):
    """Not NumPy's words for it, in a traceback."""
    old = {**model(91), "class_embed.weight": np.zeros(shape, np.float32)}
    state, remarks = fitted("a.pth", Checkpoint(State(old, {})), model(4, seed=1), OURS)
    assert state.model["class_embed.weight"].shape == shape and remarks[0] == "a.pth: 2 of 3 arrays are taken over"


def test_a_head_with_fewer_biases_than_rows():
    old = {**model(91), "class_embed.bias": np.zeros(3, np.float32)}
    assert fitted("a.pth", Checkpoint(State(old, {})), model(4), OURS)[0].model["class_embed.bias"].shape == (3,)


@pytest.mark.parametrize("names, fix", [(["encoder.weight"], "Pass the weights of a DETR."),
                                         (["layer1.0.conv1.weight"], "pass --backbone_weights")])
def test_weights_of_another_model(names, fix):
    strange = {name: np.zeros(3, np.float32) for name in names}
    with pytest.raises(DetrError, match="none of its 1 arrays is one of this model's") as error:
        fitted("a.pth", Checkpoint(State(strange, {})), model(4), OURS)
    assert fix in str(error.value)


def test_as_many_other_classes_are_other_classes():
    theirs = Classes.of_categories([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "tree"}])
    old = model(4)
    state, _ = fitted("a.pth", Checkpoint(State(old, {}), classes=theirs), model(4, seed=1), OURS)
    assert np.array_equal(state.model["class_embed.bias"][[2, 3]], old["class_embed.bias"][[2, 1]])


def test_class_names_forge_no_lines():
    assert shown(["red\n", "\x1b[2K"]) == r"red\n, \x1b[2K"


def test_mask_rooms_come_and_go():
    plain, masked = model(4), model(4, "detr.", seed=1)
    state, remarks = fitted("a.pth", Checkpoint(State(plain, {}), classes=OURS), masked, OURS)
    assert state.model.keys() == masked.keys() and "bbox_attention and mask_head: start anew" in remarks
    assert state.model["detr.query_embed.weight"] is plain["query_embed.weight"]
    assert state.model["mask_head.lay1.weight"] is masked["mask_head.lay1.weight"]
    state, remarks = fitted("a.pth", Checkpoint(State(masked, {}), classes=OURS), plain, OURS)
    assert state.model.keys() == plain.keys() and any("left out, as --masks is not given" in r for r in remarks)


def test_what_does_not_fit_is_left_for_the_strict_loader():
    old = {**model(4), "strange": np.zeros(1, np.float32), "backbone.bn1.num_batches_tracked": np.zeros((), int)}
    del old["query_embed.weight"]
    state, _ = fitted("a.pth", Checkpoint(State(old, {}), classes=OURS), model(4, seed=1), OURS)
    assert "strange" in state.model and "query_embed.weight" not in state.model and len(state.model) == 3


def test_the_parts_that_are_frozen_are_told():
    shapes = {"backbone.0.a": (2, 3), "backbone.0.b": (4,), "transformer.c": (5,), "class_embed.bias": (7,)}
    assert trained_parts(shapes, {"backbone.0.b", "class_embed.bias"}) == (
        "backbone 6 of 10 frozen; transformer 5 frozen; class_embed 7 trained")


@pytest.fixture
def begun(config, coco, tmp_path):
    """The file of a finished run, and a dataset with "green" under another id and a class more."""
    train(config.replace(epochs=1, augmentation="flip", output_dir=str(tmp_path / "first")))
    for split in ("train", "val"):
        file = coco / "annotations" / f"instances_{split}2017.json"
        content = json.loads(file.read_text())
        content["categories"] = [{"id": 1, "name": "red"}, {"id": 2, "name": "black"}, {"id": 3, "name": "blue"},
                                 {"id": 5, "name": "green"}]
        file.write_text(json.dumps(content))
    return str(tmp_path / "first" / "checkpoint.pkl")


def test_a_run_begins_with_weights_of_other_classes(config, begun, capsys):
    assert train(config.replace(weights=begun, epochs=1)) == 0
    printed = capsys.readouterr().out
    assert "replaced, 4 → 6 classes" in printed and "3 kept by name (red, blue, green), 1 start anew (black)" in printed
    assert "11 pictures × 1 epochs = 5 steps of 2 pictures. From a trained detector" in printed
    checkpoint = store.load(Path(config.run.output_dir) / "checkpoint.pkl")
    assert checkpoint.config.model.num_classes == 6 and (checkpoint.epoch, checkpoint.step) == (0, 5)


def test_only_weights_are_taken_not_the_place_in_the_run(config, begun):
    start = find_start(config.replace(weights=begun))
    content = start.checkpoint
    assert content.state.optimizer == {} and (content.epoch, content.step) == (-1, 0) and start.mode == WEIGHTS


def test_evaluation_replaces_nothing(config, begun):
    with pytest.raises(DetrError, match="trained on other classes"):
        evaluate(config.replace(weights=begun))


def test_resume_goes_before_weights(config, begun, capsys):
    train(config.replace(weights=begun, epochs=1))
    train(config.replace(weights=begun, epochs=2, resume="auto"))
    assert "Going on from" in capsys.readouterr().out
    assert [r["step"] for r in read_log(Path(config.run.output_dir) / "log.txt")] == [5, 10]


def test_the_command_takes_the_model_from_the_weights(config, coco, begun, tmp_path):
    """Model options, sizes and augmentation, but neither the schedule nor the classes."""
    assert main(["train", "--weights", begun, "--coco_path", str(coco), "--output_dir", str(tmp_path / "second"),
                 "--num_workers", "0", "--epochs", "2", "--max_steps", "1"]) == 0
    config = store.load(tmp_path / "second" / "checkpoint.pkl").config
    assert (config.data.min_size, config.data.max_size, config.optim.lr, config.optim.lr_drop) == (32, 64, 1e-4, 200)
    assert config.data.augmentation == "flip" and config.model.num_classes == 6


def test_early_stop_and_its_resume(config, tmp_path, monkeypatch, capsys):
    """The AP never gets better after the first evaluation: stopped after two more, also when resumed in between."""
    config = config.replace(early_stop=2, epochs=9, lr=1e-9, lr_backbone=0.0)
    train(config.replace(output_dir=str(tmp_path / "whole")))
    assert "No better AP in 2 evaluations: stopped early." in capsys.readouterr().out
    log = read_log(tmp_path / "whole" / "log.txt")
    best = max(range(len(log)), key=lambda i: log[i]["test_coco_eval_bbox"][0])
    assert len(log) == best + 3 < 9
    parts = config.replace(output_dir=str(tmp_path / "parts"))
    train(parts.replace(max_steps=5 * (best + 2)))
    assert store.load(tmp_path / "parts" / "checkpoint.pkl").since_best == 1
    train(parts.replace(resume="auto"))
    assert len(read_log(tmp_path / "parts" / "log.txt")) == len(log)
    train(parts.replace(resume="auto"))
    assert "Nothing left to train" in capsys.readouterr().out


def test_cosine_reaches_the_twin_step_by_step(config, monkeypatch):
    seen = []
    step = NumpyTwin.train_step
    monkeypatch.setattr(NumpyTwin, "train_step", lambda self, batch, seed, factor:
                        seen.append(factor) or step(self, batch, seed, factor))
    train(config.replace(lr_schedule="cosine", warmup_steps=0, epochs=2))
    assert seen == pytest.approx([0.5 * (1 + np.cos(np.pi * i / 10)) for i in range(10)])


def test_accumulated_batches_are_one_step(config):
    train(config.replace(accumulate=2, epochs=2))
    assert [r["step"] for r in read_log(Path(config.run.output_dir) / "log.txt")] == [2, 4]  # 11 pictures, 4 a step


def test_the_expectation():
    from detr_jittor.config.options import Config

    config = Config().replace(batch_size=4, accumulate=2, epochs=50, max_steps=100)
    text = expectation(config, 6000, 750, trained=False)
    assert text.startswith("6,000 pictures × 50 epochs = 37,500 steps of 8 pictures of 2 batches. --max_steps ends it "
                           "after 100. From an ImageNet backbone DETR needs some 100,000s of steps")
    box = expectation(config.replace(decoder="box"), 6000, 750, trained=False)
    assert "DETR" not in box and box.endswith("also from scratch.")


def test_collapsed_queries_are_told(capsys):
    rng = np.random.default_rng(0)
    same = np.tile(rng.random((3, 1, 4), np.float32), (1, 5, 1))  # another box in each picture
    for boxes, told in ((same + rng.random(same.shape, np.float32) * 0.004, True), (rng.random((3, 5, 4)), False),
                        (same[:, :1], False)):
        collapse = Collapse()
        collapse.add(Outputs(np.zeros((*boxes.shape[:2], 2), np.float32), boxes))
        collapse.tell()
        assert ("all queries give the same box" in capsys.readouterr().err) == told


def test_class_error_by_object():
    """One object wrong of one, then none of three: 25 per cent of the objects, although 50 as a mean over steps."""
    averages = Averages()
    for error, objects in ((100.0, 1), (0.0, 3), (100.0, 0)):
        target = Target(1, np.zeros(objects, int), np.zeros((objects, 4)), np.zeros(objects), np.zeros(objects, bool),
                        (1, 1), (1, 1))
        averages.add_step({"loss": 1.0, "class_error": error}, {}, Batch(np.zeros((1, 3, 1, 1)), None, [target]))
    assert averages.entries()[BY_OBJECT] == 25 and averages.entries()["objects"] == 4
    assert averages.means()["class_error"] == pytest.approx(200 / 3)
