"""`detr-jittor dataset convert`: what is read from one layout comes out of another, and what is lost is said."""

import json
import os

import numpy as np
import pytest
import yaml
from made_exports import EXPORTS, pictures
from PIL import Image

from detr_jittor.__main__ import main
from detr_jittor.config.options import Config
from detr_jittor.data.masks import segmentation_masks
from detr_jittor.data.splits import open_all

MADE = pictures()


def convert(source, target, to, *options) -> int:
    return main(["dataset", "convert", str(source), str(target), "--to", to, *options])


def opened(root, masks=False):
    return open_all(Config().replace(coco_path=str(root)).data, masks)


def objects_of(index) -> list:
    """Of each picture, by the name of its file: its size and its objects, by name and place."""
    name_of = index.classes.name_of()
    found = []
    for place, image in enumerate(index.images):
        rows = index.annotations(place)
        stem = os.path.splitext(os.path.basename(image.path))[0]
        found.append((stem, image.height, image.width, [
            (name_of[label], [round(v, 2) for v in box], bool(difficult)) for label, box, difficult in
            zip(rows.labels.tolist(), rows.boxes.tolist(), rows.difficult.tolist())]))
    return sorted(found)


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("export", ["roboflow_coco", "cvat_yolo", "pascal_voc", "several_coco"])
def test_there_and_back(tmp_path, capsys, export, to):
    EXPORTS[export](tmp_path / "in", MADE)
    assert convert(tmp_path / "in", tmp_path / "out", to) == 0
    before, after = opened(tmp_path / "in"), opened(tmp_path / "out")
    assert before.keys() == after.keys()
    for split in before:
        theirs, ours = objects_of(before[split]), objects_of(after[split])
        if to == "voc" and "test" in before:  # in one folder, so names that occur twice are made unique
            theirs, ours = ([row[1:] for row in sorted(rows, key=str)] for rows in (theirs, ours))
        assert ours == theirs
    assert after["train"].classes.names == before["train"].classes.names
    assert "lost" not in capsys.readouterr().out
    if to != "coco":
        return
    assert (tmp_path / "out" / "annotations" / "instances_train2017.json").is_file()


def test_pictures_are_links_or_copies(tmp_path):
    EXPORTS["labelimg_yolo"](tmp_path / "in", MADE)
    assert convert(tmp_path / "in", tmp_path / "linked", "coco") == 0
    assert convert(tmp_path / "in", tmp_path / "copied", "coco", "--copy") == 0
    for folder, is_link in (("linked", True), ("copied", False)):
        file = tmp_path / folder / "train2017" / "train_0.jpg"
        assert file.is_symlink() == is_link and Image.open(file).size == (32, 40)
    assert convert(tmp_path / "in", tmp_path / "copied", "coco") == 2


def rich(dataset) -> dict:
    """Outlines, a crowd, a difficult object, a box of fractions, a name that YAML would take for something else."""
    content = dataset.copy()
    content["categories"] = [{"id": 3, "name": "no"}, {"id": 7, "name": "猫: \"1.0\""}]
    first, second, third, fourth = content["annotations"][:4]
    first["segmentation"] = [[5, 5, 25, 5, 15, 30], [30, 5, 40, 5, 40, 20]]
    first["bbox"] = [5, 5, 35, 25]
    second["iscrowd"] = 1
    third["difficult"] = 1
    fourth["bbox"] = [10.25, 10.5, 20.5, 20.25]
    return content


def test_what_is_lost_is_said(dataset, tmp_path, capsys):
    content = rich(dataset)
    dataset.write("train", content)
    dataset.write("val", content)
    told = {}
    for to in ("coco", "yolo", "voc"):
        assert convert(dataset.root, tmp_path / to, to) == 0
        told[to] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("lost")]
    assert told["coco"] == [] and any("2 crowds are left out" in line for line in told["yolo"])
    assert any("2 objects are no longer marked difficult" in line for line in told["yolo"])
    assert any("2 crowds are marked difficult" in line for line in told["voc"])
    assert any("boxes are rounded" in line for line in told["voc"])
    before, crowd = opened(dataset.root)["train"], content["annotations"][1]
    back = {to: opened(tmp_path / to)["train"] for to in told}
    assert objects_of(back["coco"]) == objects_of(before)
    assert len(back["yolo"].objects) == len(before.objects) - 1
    assert back["yolo"].classes.names == back["voc"].classes.names == before.classes.names
    assert yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text())["names"] == dict(enumerate(
        before.classes.names))
    assert back["voc"].objects.difficult.sum() == 2 and not back["voc"].objects.iscrowd.any()
    assert np.abs(back["voc"].objects.boxes - before.objects.boxes).max() <= 1 and crowd["iscrowd"]


def test_outlines_come_along(dataset, tmp_path, capsys):
    content = rich(dataset)
    content["annotations"][1]["iscrowd"] = 0
    for split in ("train", "val"):
        dataset.write(split, content)
    for to in ("coco", "yolo"):
        assert convert(dataset.root, tmp_path / to, to, "--masks") == 0
    before = opened(dataset.root, True)["train"]
    for to in ("coco", "yolo"):
        after = opened(tmp_path / to, True)["train"]
        for place, image in enumerate(before.images):
            size = (image.height, image.width)
            other = next(p for p, i in enumerate(after.images) if os.path.basename(i.path) == os.path.basename(
                image.path))
            one, two = (segmentation_masks(index.annotations(p).segmentations, *size)
                        for index, p in ((before, place), (after, other)))
            assert one.shape == two.shape and (one != two).sum() <= 0.01 * one.size
    assert convert(dataset.root, tmp_path / "voc", "voc", "--masks") == 2
    assert "does not go with --to voc" in capsys.readouterr().err


def test_pictures_of_the_same_name_do_not_meet(tmp_path):
    for folder in ("a", "b"):
        for split in ("train", "val"):
            Image.new("RGB", (20, 20), "red" if folder == "a" else "blue").save(
                (tmp_path / "in" / split / folder / "1.png").parent.mkdir(parents=True, exist_ok=True) or
                tmp_path / "in" / split / folder / "1.png")
    images = [{"id": n, "file_name": f"{folder}/1.png", "width": 20, "height": 20} for n, folder in enumerate("ab", 1)]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, n, 5, 5]} for n in (1, 2)]
    for split in ("train", "val"):
        (tmp_path / "in" / f"{split}.json").write_text(json.dumps(
            {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}))
    for to in ("coco", "yolo", "voc"):
        assert convert(tmp_path / "in", tmp_path / to, to) == 0
        for index in opened(tmp_path / to).values():
            boxes = {Image.open(i.path).convert("RGB").getpixel((0, 0)): index.annotations(p).boxes[0].tolist()
                     for p, i in enumerate(index.images)}
            assert np.allclose(boxes[255, 0, 0], [1, 1, 5, 5]) and np.allclose(boxes[0, 0, 255], [2, 2, 5, 5])
