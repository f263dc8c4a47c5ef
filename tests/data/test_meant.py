"""Annotation files that say in another way what the format wants: read as what they mean, each time with a remark."""

import json

import numpy as np
import pytest

from detr_jittor.config.options import Config
from detr_jittor.data import columns
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.faults import DatasetError
from detr_jittor.data.masks import segmentation_masks
from detr_jittor.data.splits import open_split
from detr_jittor.data.subset import write_subset


def read(dataset, content, masks=False) -> CocoIndex:
    dataset.write("train", content)
    return CocoIndex.read(dataset.file(), dataset.folder(), masks)


def faults_of(dataset, content, masks=False) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        read(dataset, content, masks)
    return [str(fault) for fault in caught.value.faults]


def same(one: CocoIndex, other: CocoIndex) -> bool:
    return one.ground_truth() == other.ground_truth()


def as_text(value):
    """Every number below as a text; names and nested things stay."""
    if isinstance(value, dict):
        return {key: as_text(v) for key, v in value.items()}
    if isinstance(value, list):
        return [as_text(v) for v in value]
    return str(value) if type(value) in (int, float) else value


def as_float(value):
    if isinstance(value, dict):
        return {key: as_float(v) for key, v in value.items()}
    if isinstance(value, list):
        return [as_float(v) for v in value]
    return float(value) if type(value) is int else value


@pytest.mark.parametrize("change", [as_text, as_float])
@pytest.mark.parametrize("masks", [True, False])
def test_the_same_numbers_in_another_type(dataset, change, masks):
    """A whole file of them, segmentations too: the same dataset, and one remark for each kind of record."""
    plain, other = read(dataset, dataset.copy(), masks), read(dataset, change(dataset.copy()), masks)
    assert same(plain, other) and plain.remarks == []
    assert len(other.remarks) == 3 and all("they are read as what they mean" in remark for remark in other.remarks)
    assert [remark.partition(":")[0] for remark in other.remarks] == ["images", "categories", "annotations"]
    count = len(dataset.content["annotations"])
    assert "annotations: numbers are given as texts" in other.remarks[2] and f"id of {count}" in other.remarks[2]
    if masks:
        for place, image in enumerate(other.images):
            a, b = (segmentation_masks(index.annotations(place).segmentations, image.height, image.width)
                    for index in (plain, other))
            assert np.array_equal(a, b)


@pytest.mark.parametrize("value, meant", [
    ("7", 7), (" 7 ", 7), ("+7", 7), ("-7", -7), ("7.0", 7), ("7.", 7), (7.0, 7), (-0.0, 0), ("7.5", None), (7.5, None),
    ("0x7", None), ("7 px", None), ("", None), ("1e3", None), (None, None), ([7], None), (float("inf"), None),
    (float("nan"), None), (1e300, None), ("9" * 30, None), ("٧", None)])
def test_whole_numbers(value, meant):
    assert columns.whole(value) == meant


@pytest.mark.parametrize("value, meant", [
    ("64.0000", 64.0), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), (" -3 ", -3.0), ("nan", None), ("inf", None),
    ("1,5", None), ("1_000", None), ("", None), (None, None), ("--3", None)])
def test_numbers(value, meant):
    assert columns.number(value) == meant


@pytest.mark.parametrize("key, value, shown", [
    ("width", "64 px", '("64 px")'), ("width", 4.5, "(4.5)"), ("id", None, "(null)"), ("height", True, "(true)"),
    ("id", "7b", '("7b")'), ("id", "猫", '("猫")')])
def test_messages_quote_a_value_as_it_stands(dataset, key, value, shown):
    content = dataset.copy()
    content["images"][1][key] = value
    assert any(shown in fault for fault in faults_of(dataset, content))


def test_a_name_that_is_a_number(dataset):
    content = dataset.copy()
    content["categories"][0]["name"] = 7
    index = read(dataset, content)
    assert index.classes.names == ("7", "pear") and "name of 1" in index.remarks[0]


@pytest.mark.parametrize("list_name, key", [("categories", "name"), ("categories", "id"), ("images", "id")])
def test_no_fault_follows_from_another(dataset, list_name, key):
    """Objects of a category without a name, or of a picture without an id, are no faults of their own."""
    content = dataset.copy()
    content[list_name][1][key] = None
    told, = faults_of(dataset, content)
    assert f"{key} is not" in told


def test_a_category_that_is_given_again(dataset):
    content = dataset.copy()
    content["categories"].append(dict(content["categories"][0], supercategory="fruit"))
    index = read(dataset, content)
    assert same(index, read(dataset, dataset.copy())) and "1 categories are given again" in index.remarks[0]


def test_annotation_ids_are_counted_anew(dataset):
    content = dataset.copy()
    for annotation in content["annotations"][:3]:
        annotation["id"] = 5
    index = read(dataset, content)
    assert same(index, read(dataset, dataset.copy()))
    assert index.remarks == ["annotation ids occur more than once (5): they are counted anew"]


@pytest.mark.parametrize("box", [[80.3, 10, 5, 5], [80, 10, 5, 5], [10, 60, 5, 5], [-5, 10, 5, 5], [83.9, 10, 5, 5],
                                 [10, -8, 3, 5.5]])
def test_boxes_just_outside_are_left_out(dataset, box):
    """By a pixel, or a twentieth of the picture: neither trained on nor measured."""
    content = dataset.copy()
    content["annotations"].append({**content["annotations"][0], "id": 999, "image_id": 10, "bbox": box})
    index = read(dataset, content)
    assert same(index, read(dataset, dataset.copy()))
    assert index.remarks == ["1 boxes lie just outside their picture and are left out (annotation 999)"]
    assert read(dataset, content, masks=True).learned.tolist() == index.learned.tolist()


@pytest.mark.parametrize("box", [[85, 10, 5, 5], [10, 64, 5, 5], [80.3, 100, 5, 5], [-15, 10, 5, 5]])
def test_boxes_far_outside_are_refused(dataset, box):
    content = dataset.copy()
    content["annotations"].append({**content["annotations"][0], "id": 999, "image_id": 10, "bbox": box})
    told, = faults_of(dataset, content)
    assert told.startswith("annotation 999 ") and "bbox lies outside its picture" in told


@pytest.mark.parametrize("outside, total, refused", [(10, 200, False), (11, 200, True), (20, 2000, False),
                                                     (21, 2000, True), (2, 3, True), (1, 3, False)])
def test_many_boxes_just_outside_are_refused(dataset, outside, total, refused):
    content = dataset.copy()
    template = {**content["annotations"][0], "image_id": 10}
    content["annotations"] = [{**template, "id": i, "bbox": [81, 1, 5, 5] if i < outside else [1, 1, 5, 5]}
                              for i in range(total)]
    if refused:
        assert len(faults_of(dataset, content)) == outside
    else:
        assert len(read(dataset, content).objects) == total - outside


@pytest.mark.parametrize("box", [[9, 9, -1e-9, 4], [9, 9, 4, -1e-5], [9, 9, 0, 0]])
def test_a_width_that_is_rounded_off_is_no_area(dataset, box):
    content = dataset.copy()
    content["annotations"][0]["bbox"] = box
    index = read(dataset, content)
    assert "1 boxes have no area and are left out of training" in index.remarks[0]
    assert index.learned.sum() == len(content["annotations"]) - 1 and (index.objects.boxes[:, 2:] >= 0).all()


def test_boxes_as_fractions(dataset):
    content = dataset.copy()
    for annotation in content["annotations"]:
        size = next(i for i in content["images"] if i["id"] == annotation["image_id"])
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x / size["width"], y / size["height"], w / size["width"], h / size["height"]]
    told, = faults_of(dataset, content)
    assert "all boxes are smaller than a pixel (are they fractions of the picture's size?)" in told
    content["annotations"][0]["bbox"] = [1, 1, 3, 3]  # one that is not: small boxes can be
    assert len(read(dataset, content).objects) == len(content["annotations"])


@pytest.mark.parametrize("nothing", [[], None, [[]], "absent"])
def test_an_object_without_an_outline_among_others(dataset, nothing):
    """With masks it is left out as a crowd is, whatever --crowds says; without masks nobody asks."""
    content = dataset.copy()
    content["annotations"][1]["segmentation"] = nothing
    if nothing == "absent":
        del content["annotations"][1]["segmentation"]
    number = content["annotations"][1]["id"]
    index = read(dataset, content, masks=True)
    assert index.remarks == ["1 annotations have no outline, only a box: with --masks they are left out, as crowds "
                             f"are (annotation {number})"]
    for choice in ("ignore", "objects"):
        split = open_split(Config().replace(coco_path=str(dataset.root), crowds=choice).data, "train", masks=True)
        assert split.objects.iscrowd.sum() == 1 and split.learned.sum() == len(content["annotations"]) - 1
    of_crowd, = (a for a in index.ground_truth()["annotations"] if a["iscrowd"])
    assert of_crowd["bbox"] == content["annotations"][1]["bbox"] and type(of_crowd["segmentation"]) is list
    assert read(dataset, content).remarks == [] and not read(dataset, content).objects.iscrowd.any()


def test_a_file_of_boxes_alone_with_masks(dataset):
    content = dataset.copy()
    for annotation in content["annotations"][:5]:
        annotation["segmentation"] = []
    told = faults_of(dataset, content, masks=True)
    assert len(told) == 5 and all("segmentation is empty: the object has a box only" in fault for fault in told)


def test_flat_lists_are_one_polygon(dataset):
    content = dataset.copy()
    for annotation in content["annotations"][:2]:
        annotation["segmentation"] = annotation["segmentation"][0]
    index = read(dataset, content, masks=True)
    assert same(index, read(dataset, dataset.copy(), masks=True))
    assert index.remarks == ["2 segmentations are lists of numbers: each is taken as one polygon"]


def test_a_subset_of_a_file_with_texts(dataset, tmp_path):
    """The smaller file has the pictures and objects that were chosen, as they stand."""
    for split in ("train", "val"):
        dataset.write(split, as_text(dataset.copy()))
    written = write_subset(Config().replace(coco_path=str(dataset.root)).data, tmp_path / "small", 3, 3)
    content = json.loads((tmp_path / "small" / "annotations" / "instances_train2017.json").read_text())
    assert len(written["train"]) == len(content["images"]) == 3
    assert len(written["train"].objects) == len(content["annotations"]) > 0
