"""What must not change a number: other ids for the same names, large ids, crowds, orientations that a camera notes."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy_twin import NumpyTwin
from PIL import Image
from test_training import same_run

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.data.decode import read_image
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split
from detr_jittor.engine.classes import in_its_labels
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.start import find_start
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log

SPLITS = ("train", "val")


def change(coco: Path, make, splits=SPLITS) -> None:
    for split in splits:
        file = coco / "annotations" / f"instances_{split}2017.json"
        content = json.loads(file.read_text())
        make(content)
        file.write_text(json.dumps(content))


def renumbered(ids: dict[int, int]):
    """The same names under other ids, in the categories and in the annotations."""
    def make(content):
        for category in content["categories"]:
            category["id"] = ids[category["id"]]
        for annotation in content["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]
    return make


def respelled(content):
    for category in content["categories"]:
        category["name"] = category["name"].upper() + " "


SAME_NAMES = {
    "swapped": renumbered({1: 2, 2: 1, 3: 3}), "moved": renumbered({1: 41, 2: 42, 3: 43}),
    "from 0": renumbered({1: 0, 2: 1, 3: 2}), "large": renumbered({1: 70_000, 2: 5, 3: 2**60}), "spelling": respelled}


@pytest.fixture
def trained(config, tmp_path):
    """(the settings, the checkpoint of an epoch, what its evaluation says)"""
    train(config.replace(epochs=1, output_dir=str(tmp_path / "first")))
    file = str(tmp_path / "first" / "checkpoint.pkl")
    return config, file, evaluate(config.replace(resume=file, output_dir=""))


@pytest.mark.parametrize("name", SAME_NAMES)
def test_names_decide_in_evaluation_not_ids(trained, coco, name):
    config, file, before = trained
    assert before.ap > 0.2
    change(coco, SAME_NAMES[name])
    after = evaluate(config.replace(resume=file, output_dir=""))
    assert after.bbox.stats == before.bbox.stats
    fold = str.casefold if name == "spelling" else str
    assert {fold(c.name.strip()): (c.objects, c.ap) for c in after.bbox.classes} == {
        c.name: (c.objects, c.ap) for c in before.bbox.classes}
    weights = evaluate(config.replace(weights=file, eval=True, output_dir=""))  # --eval --weights
    assert weights.bbox.stats == before.bbox.stats


@pytest.mark.parametrize("name", ["swapped", "moved", "large"])
def test_names_decide_when_a_run_goes_on(trained, coco, tmp_path, capsys, name):
    """Losses, weights and moments as if the ids had stayed; and a third run goes on from that one."""
    config, file, _ = trained
    runs = [tmp_path / "same", tmp_path / "other"]
    train(config.replace(epochs=2, resume=file, output_dir=str(runs[0])))
    change(coco, SAME_NAMES[name])
    capsys.readouterr()
    train(config.replace(epochs=2, resume=file, output_dir=str(runs[1])))
    assert "its classes have other numbers than in" in capsys.readouterr().out
    checkpoint = store.load(runs[1] / "checkpoint.pkl")
    assert dict(zip(checkpoint.classes.names, checkpoint.classes.labels)) == {"red": 1, "green": 2, "blue": 3}
    checkpoint.classes = store.load(runs[0] / "checkpoint.pkl").classes
    store.save(runs[1] / "checkpoint.pkl", checkpoint)
    same_run(*runs)
    assert train(config.replace(epochs=3, resume="auto", output_dir=str(runs[1]))) == 0


def test_another_name_is_refused_although_the_ids_agree(trained, coco):
    config, file, _ = trained
    change(coco, lambda content: content["categories"][1].update(name="mauve"))
    for call in (evaluate, train):
        with pytest.raises(DetrError, match=r"trained on other classes than .*, whose category 2 \(mauve\)"):
            call(config.replace(resume=file, epochs=3))


def test_fewer_classes_than_the_checkpoint_knows(trained, coco):
    """What is left is measured as before: each class by itself."""
    config, file, before = trained

    def without_blue(content):
        content["categories"].pop()
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] != 3]

    change(coco, without_blue)
    change(coco, renumbered({1: 2, 2: 1}))
    after = evaluate(config.replace(resume=file, output_dir=""))
    assert {c.name for c in after.bbox.classes} == {"red", "green"}
    assert {c.name: c.objects for c in after.bbox.classes}.items() <= {
        c.name: c.objects for c in before.bbox.classes}.items()


def test_a_file_without_names_is_said_to_be_taken_by_ids(trained, coco, capsys):
    config, file, before = trained
    checkpoint = store.load(file)
    checkpoint.classes = None
    store.save(file, checkpoint)
    after = evaluate(config.replace(resume=file, output_dir=""))
    assert after.bbox.stats == before.bbox.stats
    assert "names no classes: its outputs are taken to be the categories of instances_val2017, by their ids" in (
        capsys.readouterr().out)


def test_cocos_names_of_a_file_without_names(trained, coco, capsys):
    """91 outputs and only names that COCO has: matched by COCO's numbers, and said."""
    config, file, before = trained
    of_coco = {"red": ("cat", 17), "green": ("dog", 18), "blue": ("kite", 38)}
    checkpoint = store.load(file)
    model = checkpoint.state.model
    for name in ("class_embed.weight", "class_embed.bias"):
        head = np.full((92, *model[name].shape[1:]), -99 if name.endswith("bias") else 0, np.float32)
        head[[17, 18, 38, 91]] = model[name][[1, 2, 3, 4]]
        model[name] = head
    checkpoint.classes, checkpoint.state.optimizer = None, {}
    store.save(file, checkpoint)

    def renamed(content):
        for category in content["categories"]:
            category["name"] = of_coco[category["name"]][0]

    change(coco, renamed)
    after = evaluate(config.replace(resume=file, output_dir="", num_classes=91))
    assert after.bbox.stats == before.bbox.stats
    assert "the names are COCO's, guessed from 91 outputs" in capsys.readouterr().out


def test_validation_may_number_otherwise_and_know_fewer_classes(config, coco, tmp_path):
    """The same log in hex, but for the mean over the classes that validation does not name."""
    train(config.replace(epochs=2, output_dir=str(tmp_path / "same")))
    change(coco, SAME_NAMES["swapped"], ["val"])
    train(config.replace(epochs=2, output_dir=str(tmp_path / "other")))
    same_run(tmp_path / "same", tmp_path / "other")
    change(coco, lambda content: content["categories"].append({"id": 9, "name": "black"}), ["train"])
    assert train(config.replace(epochs=1, output_dir=str(tmp_path / "fewer"))) == 0
    change(coco, lambda content: content["categories"].append({"id": 8, "name": "white"}), ["val"])
    with pytest.raises(DetrError, match=r"instances_val2017 has category 8 \(white\), of which instances_train2017"):
        train(config.replace(epochs=1, output_dir=str(tmp_path / "unknown")))


@pytest.mark.parametrize("first", [2**53, 2**60, 2**63 - 200])
def test_large_ids_of_pictures(trained, coco, first):
    """Of neighbours from 2^53 on, floating-point numbers make one."""
    config, file, before = trained

    def moved(content):
        for image in content["images"]:
            image["id"] += first
        for annotation in content["annotations"]:
            annotation["image_id"] += first

    change(coco, moved, ["val"])
    assert evaluate(config.replace(resume=file, output_dir="")).bbox.stats == before.bbox.stats


def all_crowds(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def test_nothing_but_crowds(config, coco, capsys, tmp_path):
    """Refused with the cause; with the option a run equals that without the marks."""
    train(config.replace(epochs=1, output_dir=str(tmp_path / "plain")))
    change(coco, all_crowds)
    with pytest.raises(DetrError, match=r"all of its 11 objects are crowds \(iscrowd 1\)\..*pass --crowds objects"):
        train(config.replace(epochs=1, output_dir=str(tmp_path / "refused")))
    capsys.readouterr()
    train(config.replace(epochs=1, crowds="objects", output_dir=str(tmp_path / "objects")))
    assert "instances_train2017: 11 crowds are taken as objects" in capsys.readouterr().out
    same_run(tmp_path / "plain", tmp_path / "objects")
    evaluate(config.replace(resume=str(tmp_path / "plain" / "checkpoint.pkl"), output_dir=""))
    assert "there is nothing to measure, so AP stays \"-\": all of its 4 objects are crowds" in capsys.readouterr().err


def test_objects_without_area_or_all_difficult_are_nothing_to_train_on(config, coco):
    change(coco, lambda content: [a.update(difficult=1) for a in content["annotations"]], ["train"])
    with pytest.raises(DetrError, match="nothing to train on: none of its 11 objects is left"):
        train(config.replace(epochs=1, remove_difficult=True))
    assert train(config.replace(epochs=1)) == 0


def test_most_objects_crowds(coco, config):
    change(coco, lambda content: [a.update(iscrowd=1) for a in content["annotations"][:6]], ["train"])
    remarks = open_split(config.replace(coco_path=str(coco)).data, "train").remarks
    assert any(remark.startswith("6 of 11 objects are crowds") for remark in remarks)


BACK = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("turn", BACK)
def test_pictures_that_a_camera_noted_as_turned(config, coco, turn):
    """Annotated upright, saved turned and noted so: training, evaluation and prediction see the same pixels."""
    index, batches, pixels = open_split(config.data, "val"), {}, {}
    for when in ("before", "after"):
        for training in (True, False):
            loader = Loader(index, config.data, 2, training, seed=1)
            batches[when, training] = [batch.images.tobytes() for batch in loader.epoch()]
        pixels[when] = [read_image(image.path).tobytes() for image in index.images]  # as `predict` reads
        for image in index.images:
            exif = Image.Exif()
            exif[0x0112] = turn
            Image.open(image.path).transpose(BACK[turn]).save(image.path, exif=exif)
    assert pixels["after"] == pixels["before"] and len(set(pixels["before"])) == 4
    assert batches["after", True] == batches["before", True] and batches["after", False] == batches["before", False]


def test_names_decide_below_a_mask_head(trained, coco):
    """The detector of --frozen_weights."""
    config, file, _ = trained
    config = config.replace(frozen_weights=file, masks=True)
    before = open_split(config.data, "train")
    change(coco, SAME_NAMES["swapped"])
    data = open_split(config.data, "train")
    assert not np.array_equal(data.objects.labels, before.objects.labels)
    start = find_start(config.replace(masks=True))
    assert np.array_equal(in_its_labels(config, start, data).objects.labels, before.objects.labels)


def test_an_evaluation_without_any_picture_is_an_error(trained, coco, capsys):
    config, file, _ = trained
    change(coco, lambda content: [i.update(width=i["height"], height=i["width"]) for i in content["images"]], ["val"])
    with pytest.raises(DetrError, match="not one of its 4 pictures could be read, so nothing is measured"):
        evaluate(config.replace(resume=file, output_dir=""))


def test_an_epoch_without_any_picture_is_an_error(config, coco, tmp_path):
    change(coco, lambda content: [i.update(width=i["height"], height=i["width"]) for i in content["images"]])
    with pytest.raises(DetrError, match="epoch 0: not one batch had pictures that could be read, so nothing was lea"):
        train(config.replace(max_bad_images=99))
    assert not (Path(config.run.output_dir) / "best.pkl").exists()


def test_an_epoch_with_one_batch_left_is_none(config, coco):
    change(coco, lambda content: [i.update(width=i["height"] + 1) for i in content["images"][2:]], ["train"])
    assert train(config.replace(max_bad_images=99, epochs=1)) == 0
    assert read_log(Path(config.run.output_dir) / "log.txt")[0]["train_loss"] > 0


def test_the_command_line_takes_the_option(config, coco, capsys):
    change(coco, all_crowds)
    assert NumpyTwin.name == "numpy"
    status = main(["train", "--coco_path", str(coco), "--epochs", "1", "--num_workers", "0", "--min_size", "32",
                   "--max_size", "64", "--backbone_weights", "none", "--crowds", "objects"])
    assert status == 0 and "11 crowds are taken as objects" in capsys.readouterr().out


def test_16_bits_of_which_few_are_used_are_said_at_the_start(config, coco, capsys):
    for path in sorted((coco / "train2017").iterdir()):
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 16).save(path)
    assert train(config.replace(epochs=1)) == 0
    assert "1.png: has 16 bits a pixel with values below 4096 alone" in capsys.readouterr().err
