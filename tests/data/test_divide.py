"""A validation split that is cut out: of every class its part, the same each time, and copies of a picture together."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detr_jittor.config.options import Config
from detr_jittor.data.divide import SHARE, choose
from detr_jittor.data.splits import open_splits


def write(root, classes_of: dict[str, list[int]], order=1) -> None:
    """Pictures by name, each with objects of some classes."""
    root.mkdir(parents=True)
    images, annotations = [], []
    for number, name in enumerate(sorted(classes_of)[::order], 1):
        Image.new("RGB", (20, 20)).save(root / name)
        images.append({"id": number, "file_name": name, "width": 20, "height": 20})
        annotations += [{"id": len(annotations) + k, "image_id": number, "category_id": c, "bbox": [1, 1, 5, 5]}
                        for k, c in enumerate(classes_of[name], 1)]
    categories = [{"id": c, "name": f"class {c}"} for c in range(4)]
    (root / "all.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def names(root) -> tuple[set[str], set[str]]:
    return tuple({image.path.rpartition("/")[2] for image in index.images}
                 for index in open_splits(Config().replace(coco_path=str(root)).data))


def test_every_class_has_its_part(tmp_path):
    """A common class, one in ten pictures, one in three, and one in a single picture, which stays in training."""
    classes_of = {f"{n:03}.png": [0] + [1] * (n % 10 == 0) + [2] * (n in (7, 8, 9)) + [3] * (n == 50)
                  for n in range(100)}
    write(tmp_path / "a", classes_of)
    train, val = names(tmp_path / "a")
    assert train | val == set(classes_of) and not train & val
    assert [sum(c in classes_of[name] for name in val) for c in range(4)] == [20, 2, 1, 0]


def test_the_same_whatever_the_order_of_the_file_and_the_place(tmp_path):
    classes_of = {f"{n:03}.png": [n % 3] for n in range(40)}
    write(tmp_path / "a", classes_of)
    write(tmp_path / "b" / "c", classes_of, order=-1)
    assert names(tmp_path / "a") == names(tmp_path / "b" / "c")


def test_copies_of_a_picture_stay_together(tmp_path):
    """As Roboflow names the augmented copies that it writes."""
    classes_of = {f"street{n}_jpg.rf.{copy:032x}.png": [n % 2] for n in range(30) for copy in range(3)}
    write(tmp_path / "a", classes_of)
    train, val = ({name.partition(".rf.")[0] for name in split} for split in names(tmp_path / "a"))
    assert not train & val and len(val) == 6


def test_objects_stay_with_their_pictures(tmp_path):
    classes_of = {f"{n:03}.png": [n % 4] * (n % 4) for n in range(20)}
    write(tmp_path / "a", classes_of)
    for index in open_splits(Config().replace(coco_path=str(tmp_path / "a")).data):
        for place, image in enumerate(index.images):
            assert index.annotations(place).labels.tolist() == classes_of[image.path.rpartition("/")[2]]
        assert index.ground_truth()["images"][0]["id"] == index.images[0].id


@pytest.mark.parametrize("count, parts", [(1, (1, 1)), (2, (1, 1)), (3, (2, 1)), (5, (4, 1)), (50, (40, 10))])
def test_small_sets(tmp_path, count, parts):
    write(tmp_path / "a", {f"{n}.png": [0] for n in range(count)})
    train, val = open_splits(Config().replace(coco_path=str(tmp_path / "a")).data)
    assert (len(train), len(val)) == parts and "no validation split" in train.remarks[-1]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(1, 6), st.integers(0, 2**32))
def test_any_set_is_divided(groups, classes, seed):
    random = np.random.default_rng(seed)
    found = random.random((groups, classes + 1)) < 0.4
    found[:, -1] = ~found[:, :-1].any(axis=1)
    sizes = np.ones(groups, int)
    chosen = choose(found, sizes)
    assert 0 < chosen.sum() < groups and np.array_equal(chosen, choose(found, sizes))
    assert abs(chosen.sum() - SHARE * groups) <= 1 + classes
