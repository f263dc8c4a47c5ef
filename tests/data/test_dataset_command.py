"""`detr-jittor dataset`: check, show, subset and demo as a user meets them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_jittor.__main__ import main
from detr_jittor.config.options import Config
from detr_jittor.data import show
from detr_jittor.data.splits import open_split
from detr_jittor.data.subset import choose, presence
from detr_jittor.twin.seeding import generator

COCO_MINI = Path(__file__).parents[3] / "shared" / "coco-mini"


def command(*arguments) -> int:
    return main(["dataset", *map(str, arguments)])


def test_check_tells_counts(dataset, capsys):
    assert command("check", "--coco_path", dataset.root, "--masks", "--pictures") == 0
    out = capsys.readouterr().out
    count = len(dataset.content["annotations"])
    assert f"instances_train2017: 7 pictures (2 without objects), {count} objects, 2 classes (0 without" in out
    assert "num_classes 8" in out and "7 of 7 pictures can be read" in out


def test_check_counts_what_is_not_used(dataset, capsys):
    picture = Image.open(dataset.folder() / "000.jpg")
    picture.convert("RGBA").save(dataset.folder() / "000.jpg", "PNG")
    Image.fromarray(np.full((64, 64), 65535, np.uint16)).save(dataset.folder() / "002.jpg", "PNG")
    other = Image.open(dataset.folder() / "001.jpg")
    other.save(dataset.folder() / "001.jpg", "GIF", save_all=True, append_images=[Image.new("RGB", other.size)])
    (dataset.folder() / "003.jpg").write_bytes(b"")
    assert command("check", "--coco_path", dataset.root, "--pictures") == 2
    out = capsys.readouterr().out
    assert out.count("remark: 1 of them have") == 3 and "an alpha channel, which is dropped" in out
    assert "16 bits a pixel, of which" in out and "several frames, of which the first is taken" in out


def test_names_are_shown_as_escapes(dataset, capsys):
    """Of a file that is right, and of one that is not; and what the terminal has no letters for."""
    content = dataset.copy()
    for category in content["categories"]:
        category["name"] = "red\nblue\x1b[2K"
    dataset.write("train", content)
    dataset.write("val", content | {"images": [{**i, "file_name": "a\x1b[2K"} for i in content["images"]]})
    assert command("check", "--coco_path", dataset.root) == 2
    out, told = capsys.readouterr()
    assert out.count(r"red\nblue\x1b[2K") == 5 and r"a\x1b[2K" in told and "\x1b" not in out + told
    output = dataset.root / "caf\udce9"
    assert command("demo", "--output_dir", output, "--train", 1, "--val", 1, "--size", 32) == 0
    assert r"caf\udce9: 1 pictures" in capsys.readouterr().out


def test_check_tells_every_fault_of_both_splits(dataset, capsys):
    content = dataset.copy()
    content["annotations"][0]["bbox"] = [1]
    content["annotations"][1]["category_id"] = 9
    dataset.write("train", content)
    (dataset.folder("val") / "003.jpg").unlink()
    assert command("check", "--coco_path", dataset.root) == 2
    err = capsys.readouterr().err
    assert "2 faults" in err and "1 faults" in err and "Traceback" not in err
    for record in ("annotation 100", "annotation 101", "image 13"):
        assert record in err


def test_check_finds_damaged_pictures_and_differing_classes(dataset, capsys):
    (dataset.folder() / "002.jpg").write_bytes(b"no picture")
    assert command("check", "--coco_path", dataset.root) == 0
    assert command("check", "--coco_path", dataset.root, "--pictures") == 2
    captured = capsys.readouterr()
    assert "002.jpg" in captured.err and "6 of 7 pictures" in captured.out
    content = dataset.copy()
    content["categories"][0]["name"] = "quince"
    dataset.write("val", content)
    assert command("check", "--coco_path", dataset.root) == 2
    assert "quince" in capsys.readouterr().err


def test_show_draws_the_boxes(dataset, tmp_path):
    assert command("show", "--coco_path", dataset.root, "--output", tmp_path / "new" / "a.png", "--images", 6) == 0
    with_boxes = np.asarray(Image.open(tmp_path / "new" / "a.png")).astype(int)
    assert with_boxes.shape[0] > 900 and with_boxes.shape[1] > 1900  # two rows of four
    dataset.write("train", dataset.copy() | {"annotations": []})
    assert command("show", "--coco_path", dataset.root, "--output", tmp_path / "b.png", "--images", 6) == 0
    without = np.asarray(Image.open(tmp_path / "b.png")).astype(int)
    assert (np.abs(with_boxes[:len(without)] - without).max(axis=2) > 50).sum() > 1000


def test_show_scales_the_boxes_with_the_picture(dataset, monkeypatch):
    given = []

    def draw(picture, boxes, labels, scores, names):
        given.append((picture.size, boxes, [names[label] for label in labels.tolist()], scores))
        return picture

    monkeypatch.setattr(show, "draw_detections", draw)
    show.contact_sheet(open_split(Config().replace(coco_path=str(dataset.root)).data, "train"), [1])
    annotation = dataset.content["annotations"][0]  # of the second picture, 60×80, so six times as large on the sheet
    x, y, w, h = annotation["bbox"]
    size, boxes, names, scores = given[0]
    assert size == (360, 480) and names == ["apple"] and scores is None
    assert np.allclose(boxes, [[6 * x, 6 * y, 6 * (x + w), 6 * (y + h)]])


def test_show_names_the_colours_of_the_classes(dataset, tmp_path):
    index = open_split(Config().replace(coco_path=str(dataset.root)).data, "train")
    plain, named = (np.asarray(show.contact_sheet(index, [1, 2], legend)) for legend in (False, True))
    assert show.colours_of(index, [1, 2]) == [("#F0E442", "apple"), ("#FFFFFF", "pear")]  # labels 3 and 7
    assert show.colours_of(index, [1]) == [("#F0E442", "apple")] and show.colours_of(index, [0]) == []
    below = named[len(plain):]
    assert np.array_equal(named[:len(plain)], plain) and (below == [0xF0, 0xE4, 0x42]).all(axis=2).sum() > 100


def test_show_writes_a_page(dataset, tmp_path, capsys):
    content = dataset.copy()
    content["categories"][0]["name"] = "<b>apple"
    content["categories"].append({"id": 9, "name": "quince"})
    dataset.write("train", content)
    dataset.write("val", content)
    assert command("show", "--data", dataset.root, "--output", tmp_path / "new" / "a.html", "--images", 3) == 0
    assert "3 of 7 pictures of train and 3 of 7 pictures of val" in capsys.readouterr().out
    text = (tmp_path / "new" / "a.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 2 and "<title>Dataset set</title>" in text
    assert "&lt;b&gt;apple" in text and "<b>apple" not in text
    assert "they are not learned (quince)" in text and "pictures are in more than one split" in text
    assert "http" not in text and "<script" not in text


def test_show_goes_on_without_a_damaged_picture(dataset, tmp_path, capsys):
    for file in dataset.folder().iterdir():
        file.write_bytes(b"")
    assert command("show", "--coco_path", dataset.root, "--output", tmp_path / "a.png", "--images", 2) == 0
    for output, told in ((tmp_path / "a.unknown", "cannot be written"), (tmp_path, "cannot be written")):
        assert command("show", "--coco_path", dataset.root, "--output", output) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("copy", [False, True])
def test_subset_is_a_dataset_of_its_own(dataset, tmp_path, copy):
    arguments = ["--coco_path", dataset.root, "--images", 3, "--val_images", 2, *(["--copy"] if copy else [])]
    assert command("subset", "--output_dir", tmp_path / "a", *arguments) == 0
    assert command("subset", "--output_dir", tmp_path / "b", *arguments) == 0
    for split, count in (("train", 3), ("val", 2)):
        index = open_split(Config().replace(coco_path=str(tmp_path / "a")).data, split, masks=True)
        assert len(index) == count and set(index.objects.labels) == {3, 7}
        file = f"annotations/instances_{split}2017.json"
        content = json.loads((tmp_path / "a" / file).read_text())
        assert content == json.loads((tmp_path / "b" / file).read_text())
        ids = {i["id"] for i in content["images"]}
        assert content["annotations"] == [a for a in dataset.content["annotations"] if a["image_id"] in ids]
        assert content["categories"] == dataset.content["categories"]
        for image in index.images:
            assert os.path.islink(image.path) != copy
            original = dataset.folder(split) / os.path.basename(image.path)
            assert Path(image.path).read_bytes() == original.read_bytes()


def test_subset_of_real_pictures_has_every_class(tmp_path):
    if not COCO_MINI.is_dir():
        pytest.skip("needs coco-mini")
    index = open_split(Config().replace(coco_path=str(COCO_MINI)).data, "train")
    found = presence(index)
    classes = found.any(axis=0).sum()
    at_random = np.mean([found[np.random.default_rng(i).permutation(len(found))[:60]].any(axis=0).sum()
                         for i in range(20)])
    chosen = choose(found, 60, generator(0, 0))
    assert found[chosen].any(axis=0).sum() == classes == 80 > at_random + 5
    assert len(set(chosen.tolist())) == 60


@settings(max_examples=60)
@given(pictures=st.integers(1, 25), classes=st.integers(1, 8), count=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_choice_of_pictures(pictures, classes, count, seed):
    found = np.random.default_rng(seed).random((pictures, classes)) < 0.2
    chosen = choose(found, count, generator(seed))
    assert len(chosen) == len(set(chosen.tolist())) == min(count, pictures)
    assert chosen.tolist() == choose(found, count, generator(seed)).tolist() == sorted(chosen)
    if count >= classes:  # one picture a class is enough for all
        assert (found[chosen].any(axis=0) == found.any(axis=0)).all()
    if count <= found.any(axis=1).sum():  # pictures without objects come last
        assert found[chosen].any(axis=1).all()


def test_subset_refuses_what_cannot_be(dataset, tmp_path, capsys):
    base = ["subset", "--coco_path", dataset.root, "--output_dir"]
    assert command(*base, tmp_path / "a", "--images", 0) == 2
    assert "cannot be" in capsys.readouterr().err
    assert command(*base, dataset.root, "--images", 2) == 2
    assert "holds a dataset already" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command(*base, tmp_path / "file", "--images", 2) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert command(*base, tmp_path / "a", "--images", 2, "--seed", -1) == 2
    assert command("show", "--coco_path", dataset.root, "--output", tmp_path / "a.png", "--images", 0) == 2


def test_demo(tmp_path, capsys):
    assert command("demo", "--output_dir", tmp_path / "d", "--train", 3, "--val", 2, "--size", 64) == 0
    assert "3 pictures for training, 2 for validation" in capsys.readouterr().out
    assert command("check", "--coco_path", tmp_path / "d", "--masks", "--pictures") == 0
    assert Image.open(tmp_path / "d" / "train2017" / "000001.jpg").size == (64, 64)
