"""The demo set: the same for the same seed, valid, and what its annotations say is what is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as oracle

from detr_jittor.config.options import Config
from detr_jittor.data.demo import MOST, SHAPES, VISIBLE, draw_picture, outline, write_demo_set
from detr_jittor.data.masks import segmentation_masks
from detr_jittor.data.splits import open_split
from detr_jittor.errors import DetrError
from detr_jittor.twin.seeding import generator


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "set"
    write_demo_set(folder, train=40, val=20, seed=3)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_is_valid_and_varied(demo):
    data = Config().replace(coco_path=str(demo)).data
    for split, count in (("train", 40), ("val", 20)):
        index = open_split(data, split, masks=True)
        assert len(index) == count and index.remarks == [] and index.classes.names == SHAPES
        assert set(index.objects.labels) == {1, 2, 3, 4}
        per_picture = [len(index.annotations(place)) for place in range(count)]
        assert min(per_picture) >= 1 and max(per_picture) == MOST and len(set(per_picture)) == MOST
        sides = index.objects.boxes[:, 2:].max(axis=1)
        assert sides.min() < 35 and sides.max() > 50 and sides.min() > 10


def test_the_same_seed_gives_the_same_files_and_another_one_others(demo, tmp_path):
    write_demo_set(tmp_path / "again", train=40, val=20, seed=3)
    assert content(tmp_path / "again") == content(demo)
    write_demo_set(tmp_path / "other", train=2, val=2, seed=4)
    write_demo_set(tmp_path / "fewer", train=2, val=2, seed=3)
    name = "train2017/000001.jpg"
    assert content(tmp_path / "other")[name] != content(demo)[name] == content(tmp_path / "fewer")[name]
    assert content(demo)["val2017/000001.jpg"] != content(demo)[name]  # held-out pictures are other pictures


def test_boxes_areas_and_masks_agree(demo):
    annotations = json.loads((demo / "annotations/instances_val2017.json").read_text())["annotations"]
    for a in annotations:
        runs = oracle.frPyObjects(a["segmentation"], 128, 128)
        assert a["area"] == oracle.area(runs) > 50
        assert a["bbox"] == oracle.toBbox(runs).tolist()


def test_objects_stand_out_from_what_is_around_them(demo):
    index = open_split(Config().replace(coco_path=str(demo)).data, "val", masks=True)
    for place, image in enumerate(index.images):
        pixels = np.asarray(Image.open(image.path), np.float64)
        masks = segmentation_masks(index.annotations(place).segmentations, 128, 128)
        assert (masks.sum(axis=0) <= 1).all()  # what is visible of one is hidden of all others
        ground = pixels[~masks.any(axis=0)].mean(axis=0)
        distances = [np.linalg.norm(pixels[mask].mean(axis=0) - ground) for mask in masks]
        assert max(distances) > 60  # the first at least lies on the ground itself


def test_overlap_occurs_and_is_limited():
    hidden = []
    for image_id in range(40):
        _, objects = draw_picture(generator(0, 0, image_id), 64)
        boxes = [np.argwhere(mask) for _, mask in objects]
        for first in range(len(boxes)):
            for second in range(first + 1, len(boxes)):
                low = np.maximum(boxes[first].min(axis=0), boxes[second].min(axis=0))
                high = np.minimum(boxes[first].max(axis=0), boxes[second].max(axis=0))
                hidden.append((high > low).all())
        assert all(mask.sum() > 64 * VISIBLE * 0.2 for _, mask in objects)
    assert 5 < sum(hidden) < len(hidden) / 2


@pytest.mark.parametrize("shape, corners, area", [
    ("circle", 64, np.pi), ("square", 4, 2), ("triangle", 3, 3 * 3**0.5 / 4),
    ("star", 10, 5 * 0.42 * np.sin(np.pi / 5))])
def test_outlines(shape, corners, area):
    points = outline(shape, 0.3)
    x, y = points.T
    shoelace = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert len(points) == corners and np.isclose(np.linalg.norm(points, axis=1).max(), 1)
    assert np.isclose(shoelace, area, rtol=0.01)


def test_what_cannot_be_is_refused(demo, tmp_path):
    for values in ({"train": 0}, {"val": -1}, {"size": 8}):
        with pytest.raises(DetrError, match="cannot be"):
            write_demo_set(tmp_path / "new", **values)
    with pytest.raises(DetrError, match="holds a dataset already"):
        write_demo_set(demo, 1, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DetrError, match="cannot be written"):
        write_demo_set(tmp_path / "file" / "set", 1, 1)
