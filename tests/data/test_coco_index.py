"""The index of a dataset: what it reads, and that every fault is told, all of them together."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.faults import DatasetError
from detr_jittor.data.splits import alike, open_split
from detr_jittor.errors import DetrError
from detr_jittor.types import Classes


def read(dataset, content, masks=False) -> CocoIndex:
    dataset.write("train", content)
    return CocoIndex.read(dataset.file(), dataset.folder(), masks)


def faults_of(dataset, content, masks=False) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        read(dataset, content, masks)
    assert str(dataset.file()) in str(caught.value) and "\n" not in str(caught.value)
    return [str(fault) for fault in caught.value.faults]


def test_reads_what_the_file_says(dataset):
    index = open_split(Config().replace(coco_path=str(dataset.root)).data, "train")
    assert index.name == "instances_train2017" and index.remarks == []
    assert index.classes.category_ids == (3, 7) and index.classes.labels == (3, 7) and index.classes.num_classes == 8
    for place, image in enumerate(index.images):
        record = dataset.content["images"][place]
        assert (image.id, image.height, image.width) == (record["id"], record["height"], record["width"])
        assert image.path == str(dataset.folder() / record["file_name"])
        mine = [a for a in dataset.content["annotations"] if a["image_id"] == image.id]
        objects = index.annotations(place)
        assert objects.boxes.tolist() == [a["bbox"] for a in mine]
        assert objects.labels.tolist() == [a["category_id"] for a in mine]
        assert objects.area.tolist() == [a["area"] for a in mine]
        assert objects.segmentations is None


def test_objects_of_a_picture_need_not_stand_together_in_the_file(dataset):
    content = dataset.copy()
    content["annotations"].reverse()
    index = read(dataset, content, masks=True)
    for place, image in enumerate(index.images):
        mine = [a for a in content["annotations"] if a["image_id"] == image.id]
        assert index.annotations(place).boxes.tolist() == [a["bbox"] for a in mine]
        assert index.annotations(place).segmentations == [a["segmentation"] for a in mine]


def test_ground_truth_counts_from_one(dataset):
    content = dataset.copy()
    content["annotations"][0]["id"] = 0
    truth = read(dataset, content, masks=True).ground_truth()
    assert [a["id"] for a in truth["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    for ours, theirs in zip(truth["annotations"], content["annotations"]):
        assert all(ours[key] == theirs[key] for key in ("image_id", "category_id", "bbox", "area", "segmentation"))
    assert truth["categories"] == content["categories"]
    json.dumps(truth)


@pytest.mark.slow
def test_two_hundred_megabytes(dataset):
    """Measured: 258 MB in 9 s on one core, with 1.2 GB of memory."""
    content, count = dataset.copy(), 1_800_000
    annotations, content["annotations"] = content["annotations"][0], []
    annotations["segmentation"] = annotations["bbox"] = [1, 2, 3, 4]
    head, tail = json.dumps(content).split('"annotations": []')
    one = json.dumps(annotations).replace('"id": 100,', '"id": %d,')
    with dataset.file().open("w") as file:
        file.write(f'{head}"annotations": [')
        file.write(", ".join(one % number for number in range(count)))
        file.write(f"]{tail}")
    assert dataset.file().stat().st_size > 200e6
    index = CocoIndex.read(dataset.file(), dataset.folder())
    assert len(index.objects.labels) == count


@pytest.mark.parametrize("ids, labels", [
    ((0, 1), (0, 1)), ((1, 2), (1, 2)), ((5, 900), (5, 900)), ((0, 40000), (0, 1)), ((-4, 6), (0, 1)), ((7,), (7,))])
def test_any_category_ids(dataset, ids, labels):
    content = dataset.copy()
    content["categories"] = [{"id": i, "name": f"class {i}"} for i in ids]
    for number, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = ids[number % len(ids)]
    index = read(dataset, content)
    assert index.classes.labels == labels and index.classes.num_classes == max(labels) + 1
    back = index.classes.category_of()
    assert [back[label] for label in index.objects.labels.tolist()] == [
        a["category_id"] for a in content["annotations"]]


def test_crowds_and_missing_area(dataset):
    content = dataset.copy()
    content["annotations"][0]["iscrowd"] = 1
    del content["annotations"][1]["area"]
    index = read(dataset, content)
    assert index.objects.iscrowd.tolist() == [True] + [False] * (len(content["annotations"]) - 1)
    assert "1 annotations have no area" in index.remarks[0]
    box = content["annotations"][1]["bbox"]
    assert index.objects.area[1] == box[2] * box[3]


def test_missing_iscrowd(dataset):
    content = dataset.copy()
    del content["annotations"][0]["iscrowd"], content["annotations"][2]["iscrowd"]
    index = read(dataset, content)
    assert not index.objects.iscrowd.any() and index.remarks == ["2 annotations have no iscrowd: 0 is taken"]


def test_what_is_learned_of_each_picture(dataset):
    content = dataset.copy()
    count = [sum(a["image_id"] == i["id"] for a in content["annotations"]) for i in content["images"]]
    assert read(dataset, content).learned.tolist() == count == [0, 1, 2, 3, 0, 1, 2]
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["bbox"][2] = 0
    assert read(dataset, content).learned.tolist() == [0, 0, 1, 3, 0, 1, 2]


def test_empty_boxes_and_boxes_past_the_edge_are_counted(dataset):
    content = dataset.copy()
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][2]["bbox"] = [-5, 2, 30, 20]
    remarks = read(dataset, content).remarks
    assert len(remarks) == 2
    assert "1 boxes have no area" in remarks[0] and "annotation 100" in remarks[0]
    assert "1 boxes reach past their picture" in remarks[1] and "annotation 102" in remarks[1]


def test_shared_names_are_told_apart(dataset):
    content = dataset.copy()
    content["categories"][1]["name"] = "apple"
    index = read(dataset, content)
    assert index.classes.names == ("apple (3)", "apple (7)") and "share a name" in index.remarks[0]


NOT_A_NUMBER, INFINITE = float("nan"), float("inf")
FAULTS = [  # list, key, value (None: the key is missing), what is told
    ("images", "id", None, "has no id"),
    ("images", "id", "10a", "id is not an integer"),
    ("images", "id", -1, "id is not an integer from 0 to 2^63 − 1"),
    ("images", "id", 1.5, "id is not an integer"),
    ("images", "id", True, "id is not an integer"),
    *((records, "id", value, "id is not an integer from 0 to 2^63 − 1") for records in ("images", "annotations")
      for value in (2**63, 2**64 - 1, str(2**63), float(2**63), 10**30)),
    *(("categories", "id", value, "id is not an integer of at most 63 bits")
      for value in (2**63, -2**63, str(2**64 - 1), 10**30)),
    ("annotations", "image_id", 2**63, "image_id is not an integer from 0 to 2^63 − 1"),
    ("annotations", "category_id", 2**63, "category_id is not an integer of at most 63 bits"),
    ("images", "file_name", None, "has no file_name"),
    ("images", "file_name", 5, "file_name is not"),
    ("images", "file_name", "", "file_name is not"),
    ("images", "file_name", "\udce9.jpg", "file_name is not"),
    ("images", "file_name", "nowhere.jpg", "no such file"),
    ("images", "file_name", "sub/000.jpg", "no such file"),
    ("images", "file_name", "000.jpg\0", "no such file"),
    ("images", "file_name", "../train2017/000.jpg", "out of the image folder"),
    ("images", "file_name", "/etc/passwd", "out of the image folder"),
    ("images", "height", 0, "height is not"),
    ("images", "width", "80 px", "width is not"),
    ("images", "width", 10**9, "width is not"),
    ("annotations", "id", None, "has no id"),
    ("annotations", "id", "a", "id is not an integer"),
    ("annotations", "image_id", None, "has no image_id"),
    ("annotations", "image_id", 99, "image_id is not the id of an image"),
    ("annotations", "image_id", "11.5", "image_id is not an integer"),
    ("annotations", "category_id", None, "has no category_id"),
    ("annotations", "category_id", 4, "category_id is not the id of a category"),
    ("annotations", "category_id", [3], "category_id is not an integer"),
    ("annotations", "bbox", None, "has no bbox"),
    ("annotations", "bbox", [1, 2, 3], "bbox is not"),
    ("annotations", "bbox", [1, 2, 3, "4 px"], "bbox is not"),
    ("annotations", "bbox", [1, 2, 3, True], "bbox is not"),
    ("annotations", "bbox", [1, 2, NOT_A_NUMBER, 4], "bbox is not"),
    ("annotations", "bbox", [1, INFINITE, 3, 4], "bbox is not"),
    ("annotations", "bbox", [1, 2, 3, 10**400], "bbox is not"),
    ("annotations", "bbox", [10, 10, -3, 4], "bbox is not"),
    ("annotations", "bbox", [200, 2, 30, 40], "bbox lies outside"),
    ("annotations", "bbox", [-40, 2, 30, 40], "bbox lies outside"),
    ("annotations", "area", -1, "area is not"),
    ("annotations", "area", NOT_A_NUMBER, "area is not"),
    ("annotations", "iscrowd", 2, "iscrowd is not"),
    ("categories", "id", None, "has no id"),
    ("categories", "id", "three", "id is not an integer"),
    ("categories", "name", None, "has no name"),
    ("categories", "name", [3], "name is not"),
    ("categories", "name", "\ud83d", "name is not"),
]


@pytest.mark.parametrize("list_name, key, value, told", FAULTS)
def test_each_fault_is_told(dataset, list_name, key, value, told):
    content = dataset.copy()
    if value is None:
        del content[list_name][1][key]
    else:
        content[list_name][1][key] = value
    assert any(told in fault for fault in faults_of(dataset, content))


@pytest.mark.parametrize("list_name, times", [("images", 2), ("annotations", 0), ("categories", 2)])
def test_duplicate_ids_and_records_that_are_no_objects(dataset, list_name, times):
    content = dataset.copy()
    content[list_name].append({**content[list_name][0], "name": "other"})
    content[list_name].append(7)
    told = faults_of(dataset, content)
    assert sum("id occurs more than once" in fault for fault in told) == times
    assert any("is not a JSON object" in fault for fault in told)


def test_all_faults_together(dataset):
    content = dataset.copy()
    content["images"][0]["file_name"] = "gone.jpg"
    content["annotations"][0]["bbox"] = [1, 2, 3]
    content["annotations"][1]["category_id"] = 5
    content["annotations"][2]["bbox"] = [1000, 0, 5, 5]
    content["annotations"][3]["image_id"] = 5
    told = faults_of(dataset, content)
    for record in ("image 10", "annotation 100", "annotation 101", "annotation 102", "annotation 103"):
        assert sum(fault.startswith(record) for fault in told) == 1
    assert len(told) == 5


def test_many_faults_of_a_kind_are_told_in_one_short_line(dataset):
    content = dataset.copy()
    template = content["annotations"][0]
    content["annotations"] = [template | {"id": i, "category_id": 55} for i in range(2000)]
    dataset.write("train", content)
    with pytest.raises(DatasetError) as caught:
        CocoIndex.read(dataset.file(), dataset.folder())
    assert "2000 faults" in str(caught.value) and "and 1995 more" in str(caught.value)
    assert len(str(caught.value)) < 500 and len(caught.value.faults) == 2000


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, 5, "x"])
def test_lists_that_are_missing(dataset, key, value):
    content = dataset.copy()
    if value is None:
        del content[key]
    else:
        content[key] = value
    with pytest.raises(DetrError, match=f"no list of {key}"):
        read(dataset, content)


def test_empty_lists(dataset):
    nothing = {"images": [], "annotations": [], "categories": []}
    assert len(faults_of(dataset, nothing)) == 2
    content = dataset.copy() | {"annotations": []}
    assert len(read(dataset, content).objects) == 0


@pytest.mark.parametrize("text", [
    b"", b"{", b"[1]", b"null", b"\xff\xfe\x00", b"[" * 100000, b'{"images": 1' + b"0" * 5000 + b"}"])
def test_files_that_are_not_json(dataset, text):
    dataset.file().write_bytes(text)
    with pytest.raises(DetrError, match=r"not valid JSON|not a JSON object"):
        CocoIndex.read(dataset.file(), dataset.folder())


def test_an_annotation_file_that_cannot_be_read(dataset):
    with pytest.raises(DetrError, match=r"train2017: cannot be read \(Is a directory\)"):
        CocoIndex.read(dataset.folder(), dataset.folder())


@pytest.mark.parametrize("segmentation, told", [
    ([[1, 2, 3, 4]], "no polygon"), ([1, 2, 3, "x"], "no polygon"), ("", "segmentation is not"),
    ([[1, 2, 3, 4, 5, 1e8]], "no polygon"), (5, "segmentation is not"), ({"size": [60, 80]}, "neither"),
    ({"size": [1, 1], "counts": [1]}, "size"), ({"size": [80, 60], "counts": [5, 10**7]}, "malformed"),
    ({"size": [80, 60], "counts": [1, -1, 4800]}, "malformed"), ({"size": [80, 60], "counts": "52202"}, "malformed"),
    ({"size": [80, 60], "counts": [4799]}, "malformed"), ({"size": [80, 60], "counts": [2**40]}, "malformed"),
    ({"size": [80, 60], "counts": [10**400]}, "malformed"), ({"size": [80, 60], "counts": "\ud83d"}, "malformed")])
def test_faulty_segmentations(dataset, segmentation, told):
    content = dataset.copy()
    content["annotations"][0]["segmentation"] = segmentation
    assert len(read(dataset, content).objects) == len(content["annotations"])  # without masks nobody asks
    assert [told in fault for fault in faults_of(dataset, content, masks=True)] == [True]


GIANT = """
import sys
from detr_jittor.data.coco import CocoIndex
from detr_jittor.errors import DetrError
try:
    CocoIndex.read(sys.argv[1], sys.argv[2], masks=True)
except DetrError as error:
    print(error)
"""


def test_run_lengths_of_a_giant_picture(dataset):
    """A terabyte of mask in a few bytes of file, with 2 GB of memory."""
    content = dataset.copy()
    owner = content["annotations"][0]["image_id"]
    next(i for i in content["images"] if i["id"] == owner).update(height=10**6, width=10**6)
    content["annotations"][0]["segmentation"] = {"size": [10**6, 10**6], "counts": [10**12]}
    dataset.write("train", content)
    done = subprocess.run([sys.executable, "-c", GIANT, dataset.file(), dataset.folder()], capture_output=True,
                          text=True, timeout=120,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the run lengths are of a picture larger than any that is read" in done.stdout


def test_polygons_that_cannot_be_drawn_are_counted(dataset):
    content = dataset.copy()
    content["annotations"][0]["segmentation"].append([1, 2, 3, 4])
    assert "1 polygons" in read(dataset, content, masks=True).remarks[0]


def test_segmentations_without_any_image(dataset):
    content = dataset.copy()
    content["images"] = []
    assert any("images: the list is empty" in fault for fault in faults_of(dataset, content, masks=True))


def test_pictures_in_subfolders_and_links(dataset):
    content = dataset.copy()
    (dataset.folder() / "a").mkdir()
    os.rename(dataset.folder() / "000.jpg", dataset.folder() / "a" / "000.jpg")
    os.rename(dataset.folder() / "001.jpg", dataset.root / "elsewhere.jpg")
    os.symlink(dataset.root / "elsewhere.jpg", dataset.folder() / "001.jpg")
    content["images"][0]["file_name"] = "a/000.jpg"
    assert read(dataset, content).images[0].path == str(dataset.folder() / "a" / "000.jpg")


@pytest.mark.parametrize("missing, told", [
    ("", "no such folder"), ("annotations/instances_train2017.json", "no such file"),
    ("train2017", "none of its pictures is below")])
def test_missing_parts_of_the_layout(dataset, missing, told):
    target = dataset.root / missing
    os.rename(target, dataset.root.parent / "away")
    with pytest.raises(DetrError, match=told) as caught:
        open_split(Config().replace(coco_path=str(dataset.root)).data, "train")
    assert str(target if missing != "train2017" else dataset.file()) in str(caught.value)


def test_no_dataset_given():
    with pytest.raises(DetrError, match="--coco_path"):
        open_split(Config().data, "train")


def test_splits_with_other_classes(dataset):
    content = dataset.copy()
    train = read(dataset, content)
    assert alike(train, train) is train
    content["categories"].append({"id": 9, "name": "plum"})
    more = read(dataset, content)
    with pytest.raises(DetrError, match=r"9 \(plum\)"):
        alike(train, more)
    assert alike(more, train).classes.num_classes == 10 and alike(more, train).classes.labels == (3, 7)


def test_labels_are_those_of_the_same_name(dataset):
    """Whatever their ids, and in each of the objects."""
    content = dataset.copy()
    train = read(dataset, content)
    swapped = {3: 7, 7: 3}
    for category in content["categories"]:
        category["id"] = swapped[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = swapped[annotation["category_id"]]
    other = alike(train, read(dataset, content))
    assert np.array_equal(other.objects.labels, train.objects.labels)
    assert dict(zip(other.classes.names, other.classes.labels)) == {"apple": 3, "pear": 7}
    assert other.classes.category_of() == {3: 7, 7: 3}


@pytest.mark.parametrize("here, there, found", [
    (["cat", "Dog"], ["dog ", "CAT"], {0: 1, 1: 0}), (["cat", "Cat"], ["Cat", "cat"], {0: 1, 1: 0}),
    (["cat", "Cat"], ["CAT"], {}), (["cat"], ["cat", "Cat"], {0: 0}), (["straße"], ["STRASSE"], {0: 0}),
    (["cat"], ["cow"], {})], ids=str)
def test_which_names_are_the_same(here, there, found):
    """Exactly, or else without regard to case where only one is so; no label twice."""
    ours, theirs = (Classes.of_categories([{"id": i, "name": n} for i, n in enumerate(x)]) for x in (here, there))
    assert ours.labels_for(theirs) == found


STRANGE = ["\ud83d", "\udce9", "a\0b", "\n\x1b[2K", 10**400, -10**400]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False) | st.text(max_size=5)
    | st.sampled_from(STRANGE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["id", "bbox", "image_id", "size", "counts"]), inner, max_size=3), max_leaves=8)


@given(list_name=st.sampled_from(["images", "annotations", "categories"]), key=st.sampled_from(
    ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "file_name", "height", "width", "name"]
), value=anything, masks=st.booleans())
def test_whatever_stands_in_a_record_ends_in_an_index_or_a_fault(lasting, list_name, key, value, masks):
    dataset, content = lasting, lasting.copy()
    content[list_name][0][key] = value
    try:
        index = read(dataset, content, masks)
    except DetrError:
        return
    assert np.isfinite(index.objects.boxes).all() and np.isfinite(index.objects.area).all()
    assert all(type(i.id) is int and i.height > 0 and i.width > 0 for i in index.images)
    assert "".join([*index.classes.names, *(i.path for i in index.images)]).encode()


@given(st.lists(st.integers(0, 0x10FFFF) | st.integers(0xD800, 0xDFFF), min_size=1, max_size=3))
def test_any_name_in_unicode_is_taken_as_it_is(lasting, codes):
    """`st.text` makes no halves of characters."""
    content, name = lasting.copy(), json.loads(json.dumps("".join(map(chr, codes))))  # which joins two halves
    content["categories"][0]["name"] = name
    try:
        assert read(lasting, content).classes.names[0] == name and name.encode()
    except DetrError:
        with pytest.raises(UnicodeEncodeError):
            name.encode()
