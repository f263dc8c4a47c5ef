"""Which runs are equal, and how the others are refused."""

import json

import pytest
from made_runs import SETTINGS, write_run

from detr_jittor.compare.protocol import differences, paired, protocol, read_run
from detr_jittor.config.options import OPTIONS
from detr_jittor.errors import DetrError

MAY_DIFFER = {"output_dir", "resume", "save_every_steps", "plain"}  # besides framework and seed


def pair(root, **of_second):
    return [read_run(write_run(root, "jittor")), read_run(write_run(root, "pytorch", **of_second))]


def other_value(name: str):
    """A value that is not the one of SETTINGS"""
    _, kind, field = OPTIONS[name]
    choices, now = field.metadata["choices"], SETTINGS.flat()[name]
    if choices:
        return next(choice for choice in choices if choice != now)
    return {bool: not now, int: 999, float: 0.9, str: "another"}[kind]


def test_equal_runs_are_paired(tmp_path):
    pairs = paired(pair(tmp_path))
    assert list(pairs) == [42] and list(pairs[42]) == ["jittor", "pytorch"]
    assert pairs[42]["pytorch"].folder == tmp_path / "pytorch-42"


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - MAY_DIFFER - {"framework", "seed", "epochs",
                                                                        "dropout_masks"}))
def test_every_other_setting_must_be_equal(tmp_path, name):
    value = other_value(name)
    with pytest.raises(DetrError, match=rf"are not equal runs: they differ in {name} \S+ and \S*{value}"):
        paired(pair(tmp_path, **{name: value}))


def test_all_that_differs_is_named(tmp_path):
    with pytest.raises(DetrError, match=r"jittor-42 and .*pytorch-42 are not equal runs: they differ in "
                                        r"lr 0\.25 and 0\.5; batch_size 4 and 8\. Only the framework"):
        paired(pair(tmp_path, lr=0.5, batch_size=8))


@pytest.mark.parametrize("name", sorted(MAY_DIFFER))
def test_what_may_differ(tmp_path, name):
    assert len(paired(pair(tmp_path, **{name: other_value(name)}))) == 1


def test_dropout_masks_must_be_shared_where_there_is_dropout(tmp_path):
    with pytest.raises(DetrError, match="dropout_masks shared and native"):
        paired(pair(tmp_path / "with", dropout_masks="native"))
    native = {"dropout_masks": "native", "dropout": 0.0}
    runs = [read_run(write_run(tmp_path / "none", framework, **native)) for framework in ("jittor", "pytorch")]
    assert len(paired(runs)) == 1
    # Jittor's own are the shared ones, whatever its setting says
    assert differences(SETTINGS.replace(framework="jittor", dropout_masks="native"),
                       SETTINGS.replace(framework="pytorch")) == []


def test_the_same_dataset_by_another_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = SETTINGS.replace(coco_path="data/../shapes"), SETTINGS.replace(coco_path=str(tmp_path / "shapes"))
    assert differences(one, other) == []
    assert protocol(one)["coco_path"] != protocol(SETTINGS.replace(coco_path="shapes-2"))["coco_path"]


@pytest.mark.parametrize("changed, named", [
    ({"n_parameters": 1284743}, "trainable parameters 1234567 and 1284743"),
    ({"step": 16}, "steps 15 and 16"),
])
def test_what_runs_did_must_be_equal(tmp_path, changed, named):
    with pytest.raises(DetrError, match=f"they differ in {named}"):
        paired(pair(tmp_path, records=[{}, {}, changed]))


@pytest.mark.parametrize("changed", [{"step": 9}, {"test_coco_eval_bbox": None}])
def test_so_must_their_course(tmp_path, changed):
    with pytest.raises(DetrError, match="the steps of the epochs, or which epochs were evaluated"):
        paired(pair(tmp_path, records=[{}, changed, {}]))


def test_each_seed_needs_one_run_of_each(tmp_path):
    runs = pair(tmp_path)
    with pytest.raises(DetrError, match="seed 42 has no run of pytorch"):
        paired(runs[:1])
    with pytest.raises(DetrError, match=r"jittor-42 and .*jittor-42 are both runs of jittor with seed 42"):
        paired([*runs, runs[0]])
    with pytest.raises(DetrError, match="seed 43 has no run of jittor"):
        paired([*runs, read_run(write_run(tmp_path, "pytorch", 43))])


def test_runs_that_have_not_ended(tmp_path):
    with pytest.raises(DetrError, match=r"stopped after epoch 1; its last is 2\. Finish it with --resume auto"):
        read_run(write_run(tmp_path / "a", "jittor", aps=(0.1, 0.2)))
    assert read_run(write_run(tmp_path / "b", "jittor", aps=(0.1, 0.2), max_steps=10)).log[-1]["step"] == 10
    with pytest.raises(DetrError, match="stopped after epoch 1"):
        read_run(write_run(tmp_path / "c", "jittor", aps=(0.1, 0.2), max_steps=11))


def test_folders_that_hold_no_run(tmp_path):
    with pytest.raises(DetrError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(DetrError, match=r"config\.json: cannot be read"):
        read_run(tmp_path)
    folder = write_run(tmp_path, "jittor")
    (folder / "log.txt").write_text(json.dumps({"epoch": 2, "train_loss": 1.0}) + "\n")
    with pytest.raises(DetrError, match=r"log\.txt, line 1: has no step"):
        read_run(folder)
    (folder / "log.txt").unlink()
    with pytest.raises(DetrError, match=r"log\.txt: cannot be read"):
        read_run(folder)
