"""Every layout that is found out: the same pictures, boxes and names come out of each, or the fault is told."""

import json

import numpy as np
import pytest
from made_exports import EXPORTS, NAMES, WHOLE, pictures
from PIL import Image

from detr_jittor.config.options import Config
from detr_jittor.data.batch import read_sample
from detr_jittor.data.faults import DatasetError
from detr_jittor.data.masks import segmentation_masks
from detr_jittor.data.splits import open_split, open_splits
from detr_jittor.errors import DetrError

MADE = pictures()


def opened(root, **options):
    return open_splits(Config().replace(coco_path=str(root), **options).data)


def objects_of(index) -> dict[str, list]:
    """{stem: [(name, box)]} of all pictures."""
    name_of = index.classes.name_of()
    found = {}
    for place, image in enumerate(index.images):
        rows = index.annotations(place)
        stem = next(m.stem for m in MADE if f"{m.stem}." in image.path.replace("_jpg", ".").replace(" ", "."))
        assert (image.width, image.height) == next((m.width, m.height) for m in MADE if m.stem == stem)
        found[stem] = [(name_of[label], box) for label, box in zip(rows.labels.tolist(), rows.boxes.tolist())]
    return found


@pytest.mark.parametrize("export", EXPORTS)
def test_the_same_objects_come_out_of_each(tmp_path, export):
    EXPORTS[export](tmp_path / "my set", MADE)
    train, val = opened(tmp_path / "my set")
    found = {"train": objects_of(train), "val": objects_of(val)}
    if export in WHOLE:
        assert len(train) + len(val) == len(MADE) and 3 <= len(val) <= 5
        assert any(f"no validation split: {len(val)} of 18" in remark for remark in train.remarks)
        found = {split: found["train"] | found["val"] for split in found}
    assert set(NAMES) <= set(train.classes.names) and set(val.classes.names) == set(train.classes.names)
    for made in MADE:
        objects = found[made.split][made.stem]
        assert len(objects) == len(made.objects)
        for (name, box), (label, *wanted) in zip(objects, made.objects):
            wanted = [v + 0.5 * (export == "labelme_voc") * (k < 2) for k, v in enumerate(wanted)]
            assert name == NAMES[label] and np.abs(np.subtract(box, wanted)).max() < 1e-3


def faults_of(root, **options) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        opened(root, **options)
    return [str(fault) for fault in caught.value.faults]


def made(tmp_path, export):
    EXPORTS[export](tmp_path, MADE)
    return tmp_path


@pytest.mark.parametrize("line, told", [
    ("0 0.5 0.5 0.2", "has 3 numbers after the class"), ("0 0.5 0.5 0.2 0,2", "holds something that is no number"),
    ("x 0.5 0.5 0.2 0.2", "holds something that is no number"), ("0.5 0.5 0.5 0.2 0.2", "does not begin with a class"),
    ("3 0.5 0.5 0.2 0.2", "its class is not among those of data.yaml, 0 … 2"),
    ("-1 0.5 0.5 0.2 0.2", "its class is not among"), ("0 0.5 0.5 nan 0.2", "holds something that is no number"),
    ("0 16 20 8 8", "are they pixels?"), ("0 0.5 0.5 -0.2 0.2", "bbox is not"),
    ("0 1.5 0.5 0.2 0.2", "bbox lies outside its picture")])
def test_a_fault_of_a_label_names_file_and_line(tmp_path, line, told):
    label = made(tmp_path, "roboflow_yolo") / "train" / "labels" / "train_2.txt"
    label.write_text(f"\n{label.read_text()}\n{line}\n")
    fault, = faults_of(tmp_path)
    assert fault.startswith("train/labels/train_2.txt line 3") and told in fault


@pytest.mark.parametrize("old, new, told", [
    ("<name>red</name>", "", "object 1: has no name"),
    ("<xmin>9</xmin>", "<xmin>left</xmin>", "object 1 (left, 11, 24, 30): has no bndbox of four numbers"),
    ("<ymax>30</ymax>", "", "object 1 (9, 11, 24, ): has no bndbox"),
    ("<xmin>9</xmin>", "<xmin>900</xmin>", "object 1 ([23.0, 10.0, 877.0, 20.0])"),
    ("</annotation>", "", ": is not valid XML"),
    ("<annotation>", '<!DOCTYPE a [<!ENTITY a "b">]><annotation>&a;', ": is not valid XML"),
    ("<filename>train_0.jpg", "<filename>gone.jpg", "")])
def test_a_fault_of_an_xml_file_names_file_and_object(tmp_path, old, new, told):
    file = made(tmp_path, "roboflow_voc") / "train" / "train_0.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    if not told:  # a picture of the file's own name is taken
        assert len(opened(tmp_path)[0]) == 12
        return
    if "877" in told:  # turned, it reaches past its picture
        assert any("reach past their picture" in remark for remark in opened(tmp_path)[0].remarks)
        return
    fault, = faults_of(tmp_path)
    assert fault.startswith("train/train_0.xml") and told in fault


def rewritten(file, change) -> None:
    file.write_text(change(file.read_text()))


def renamed(folder, change) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and change(file.name) != file.name:
            file.rename(file.with_name(change(file.name)))


def names_of_pictures(change):
    """A change of a COCO file's names of pictures."""
    def make(root):
        for file in root.rglob("*.json"):
            content = json.loads(file.read_text())
            for image in content["images"]:
                image["file_name"] = change(image["file_name"])
            file.write_text(json.dumps(content))
    return make


def in_json(change):
    def make(root):
        for file in root.rglob("*.json"):
            content = json.loads(file.read_text())
            change(content)
            file.write_text(json.dumps(content))
    return make


def stale_list(root):
    for split in ("train", "val"):
        rewritten(root / f"{split}.txt", lambda text: text.replace("images/", "/content/drive/set/images/"))


def deeper(root):
    """An archive that holds one folder, and what macOS adds."""
    inner = root / "Colours v3" / "export"
    inner.mkdir(parents=True)
    for entry in list(root.iterdir()):
        if entry.name != "Colours v3":
            entry.rename(inner / entry.name)
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._data.yaml").write_bytes(b"\0\5\26\7")
    (inner / "._instances_train.json").write_bytes(b"\0\5\26\7")


def as_gbk(root):
    for file in (root / "Annotations").iterdir():
        text = file.read_text().replace("<folder>x", "<folder>红色")
        file.write_bytes(f'<?xml version="1.0" encoding="GBK"?>\n{text}'.encode("gbk"))


def chinese_json(root):
    """As Python writes it on a Chinese Windows."""
    renamed(root / "images", lambda name: name.replace("0a1b2c3d-", "红色 "))
    text = (root / "result.json").read_text().replace("0a1b2c3d-", "红色 ")
    (root / "result.json").write_bytes(text.encode("gbk"))


def separate_lists(root):
    """trainval and test, as VOC 2007 is given out."""
    sets = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    (sets / "train.txt").rename(sets / "trainval.txt")
    (sets / "val.txt").rename(sets / "test.txt")


def unsplit_pictures(root):
    """Pictures of both splits in one folder."""
    for split in ("train", "val"):
        for file in (root / "images" / split).iterdir():
            file.rename(root / "images" / file.name)


def pose(root):
    rewritten(root / "data.yaml", lambda text: text + "kpt_shape: [2, 3]\n")
    for file in root.rglob("labels/*.txt"):
        rewritten(file, lambda text: "".join(f"{line} .1 .2 2 .3 .4 1\n" for line in text.splitlines()))


def confident(root):
    for file in root.rglob("labels/*.txt"):
        rewritten(file, lambda text: "".join(f"{line} 0.93\n" for line in text.splitlines()))


VARIANTS = {
    "an archive's folder": ("datumaro_coco", deeper), "of YOLO": ("roboflow_yolo", deeper),
    "of VOC": ("cvat_voc", deeper), "of Windows": ("datumaro_coco", names_of_pictures(lambda n: f"C:\\set\\img\\{n}")),
    "addresses": ("datumaro_coco", names_of_pictures(lambda n: f"https://h/p/upload/1/{n}?v=train_1&X-Sig=a/train_2.jpg")),
    "escapes": ("label_studio_coco", names_of_pictures(lambda n: n.replace("-", "%2D").replace("\\", "%5C"))),
    "capitals": ("datumaro_coco", names_of_pictures(str.upper)), "dots": ("datumaro_coco",
                                                                       names_of_pictures(lambda n: f"./../x/{n}")),
    "no suffix": ("datumaro_coco", names_of_pictures(lambda n: n.rpartition(".")[0])),
    "other Unicode": ("label_studio_coco", lambda root: (
        renamed(root / "images", lambda n: n.replace("0a1b2c3d-", "n\u0303 ")),
        names_of_pictures(lambda n: n.replace("0a1b2c3d-", "\u00f1 "))(root))),
    "Chinese in GBK": ("label_studio_coco", chinese_json),
    "ids as texts": ("datumaro_coco", in_json(lambda c: [r.update(id=str(r["id"])) for r in c["images"]])),
    "ids as floats": ("several_coco", in_json(lambda c: [r.update(id=float(r["id"])) for r in c["images"]])),
    "huge ids": ("datumaro_coco", in_json(lambda c: (
        [r.update(id=r["id"] + 2**60) for r in c["images"]],
        [r.update(image_id=r["image_id"] + 2**60) for r in c.get("annotations", ())]))),
    "sizes are null": ("datumaro_coco", in_json(lambda c: [r.update(width=None, height=None) for r in c["images"]])),
    "one annotation id": ("cvat_coco", in_json(lambda c: [r.update(id=0) for r in c["annotations"]])),
    "one folder of pictures": ("datumaro_coco", unsplit_pictures), "an old list": ("cvat_ultralytics", stale_list),
    "keypoints": ("roboflow_yolo", pose), "confidences": ("roboflow_yolo", confident),
    "a mark before YAML": ("roboflow_yolo", lambda root: (root / "data.yaml").write_text(
        (root / "data.yaml").read_text(), "utf-8-sig")),
    "suffixes in capitals": ("roboflow_yolo", lambda root: renamed(root, lambda n: n.replace(".jpg", ".JPG"))),
    "backslashes in YAML": ("ultralytics_yolo", lambda root: rewritten(
        root / "colours.yaml", lambda text: text.replace("images/", "D:\\set\\images\\"))),
    "a list of folders": ("ultralytics_yolo", lambda root: rewritten(
        root / "colours.yaml", lambda text: text.replace("train: images/train", "train: [images/train]"))),
    "GBK": ("cvat_voc", as_gbk), "trainval and test": ("pascal_voc", separate_lists),
    "no filename": ("roboflow_voc", lambda root: [rewritten(f, lambda text: text.replace(
        "<filename>", "<path>C:\\a\\").replace("</filename>", "</path>")) for f in root.rglob("*.xml")]),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_whatever_is_written_is_read(tmp_path, variant):
    export, change = VARIANTS[variant]
    change(made(tmp_path, export))
    train, val = opened(tmp_path)
    objects = objects_of(train) | objects_of(val)
    assert len(train) + len(val) == len(objects) == len(MADE)
    for picture in MADE:
        for (name, box), (label, *wanted) in zip(objects[picture.stem], picture.objects):
            assert name == NAMES[label] and np.abs(np.subtract(box, wanted)).max() < 1e-3


def test_a_test_split_serves_where_there_is_no_other(tmp_path):
    root = made(tmp_path, "pascal_voc")
    separate_lists(root)
    train, val = opened(root)
    assert (len(train), len(val)) == (12, 6) and "the test split serves as one" in val.remarks[-1]
    assert not any("validation" in remark for remark in train.remarks)


def test_explicit_files(tmp_path):
    """Each where it is, pictures in a folder that is named or that is looked for, and a file in place of a folder."""
    root = made(tmp_path, "datumaro_coco")
    train, val = (str(root / "annotations" / f"instances_{split}.json") for split in ("train", "val"))
    folders = {split: str(root / "images" / split) for split in ("train", "val")}
    given = Config().replace(train_json=train, val_json=val, train_images=folders["train"], val_images=folders["val"])
    looked_for = Config().replace(train_json=train, val_json=val)
    cut = Config().replace(train_json=train)
    one = Config().replace(coco_path=train)
    for config in (given, looked_for, cut, one):
        a, b = open_splits(config.data)
        both = (objects_of(a) | objects_of(b)) if config in (cut, one) else objects_of(a)
        assert set(both) == {m.stem for m in MADE if m.split == "train"}
        assert len(b) == 6 if config in (given, looked_for) else len(a) + len(b) == 12
    assert len(open_split(Config().replace(val_json=val).data, "val")) == 6
    yaml = made(tmp_path / "yolo", "roboflow_yolo") / "data.yaml"
    assert len(opened(yaml)[1]) == 6


@pytest.mark.parametrize("options, told", [
    ({"train_json": "gone.json"}, "gone.json: no such file. Correct --train_json"),
    ({"train_json": "ROOT/annotations/instances_train.json", "train_images": "gone"}, "gone: no such folder"),
    ({"val_images": "ROOT"}, "--val_images goes with --val_json"), ({"coco_path": "ROOT/a.zip"}, "Unpack it"),
    ({"coco_path": "ROOT/images"}, "no dataset of a known layout (18 pictures)"),
    ({"coco_path": "ROOT/annotations"}, "instances_train.json: none of its pictures is below"),
    ({"coco_path": "ROOT/empty"}, "the folder is empty")])
def test_what_is_no_dataset_is_told(tmp_path, options, told):
    root = made(tmp_path, "datumaro_coco")
    (root / "empty").mkdir()
    (root / "a.zip").write_bytes(b"PK")
    options = {key: value.replace("ROOT", str(root)) for key, value in options.items()}
    with pytest.raises(DetrError) as caught:
        open_splits(Config().replace(**options).data)
    assert told in str(caught.value) and caught.value.fix


def test_a_list_names_what_is_not_there(tmp_path):
    root = made(tmp_path, "cvat_ultralytics")
    rewritten(root / "train.txt", lambda text: text.replace("train_3.png", "gone.png"))
    fault, = faults_of(root)
    assert fault.startswith("train.txt line 4: images/train/gone.png: no such picture")
    root = made(tmp_path / "voc", "pascal_voc")
    rewritten(next(root.rglob("Main/train.txt")), lambda text: text.replace("train_3", "gone"))
    fault, = faults_of(root)
    assert "Main/train.txt line 4 (gone): there is no such XML file" in fault


def test_a_split_that_is_not_there(tmp_path):
    root = made(tmp_path, "ultralytics_yolo")
    rewritten(root / "colours.yaml", lambda text: text.replace("train: images/train", "train: images/gone"))
    with pytest.raises(DetrError, match=r"colours.yaml: train: images/gone: there is no such folder"):
        opened(root)
    rewritten(root / "colours.yaml", lambda text: text.replace("images/gone", "images/train").replace(
        "val: images/val", "val: images/gone"))
    train, val = opened(root)
    assert len(train) + len(val) == 12 and "val: images/gone: is not there" in train.remarks[0]


def test_labels_without_names_or_pictures_without_labels(tmp_path):
    root = made(tmp_path, "label_studio_yolo")
    (root / "classes.txt").unlink()
    (root / "labels" / "train_3.txt").unlink()
    train, val = opened(root)
    assert train.classes.names == val.classes.names == ("0", "1", "2")
    assert any("1 pictures have no label file" in remark for remark in train.remarks)
    root = made(tmp_path / "other", "roboflow_yolo")
    for file in root.rglob("labels/*.txt"):
        file.unlink()
    assert "has a label file" in faults_of(root)[0]


def test_damaged_pictures_of_a_layout_that_needs_their_size(tmp_path):
    """A few are left out and named; many are a fault."""
    root = made(tmp_path, "roboflow_yolo")
    (root / "train" / "images" / "train_5.jpg").write_bytes(b"no picture")
    train, _ = opened(root)
    assert len(train) == 11 and any("train_5.jpg" in r and "left out" in r for r in train.remarks)
    for file in (root / "train" / "images").iterdir():
        file.write_bytes(b"")
    assert "train/images/train_0.jpg: is no readable picture" in "".join(faults_of(root))


def as_heic(file) -> None:
    file.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    file.rename(file.with_suffix(".HEIC"))


@pytest.mark.parametrize("export, folder", [
    ("roboflow_yolo", "train/images"), ("label_studio_yolo", "images"), ("labelimg_yolo", "train")])
def test_formats_that_are_not_read_are_told(tmp_path, export, folder):
    """Where pictures are found by their suffix, one of another format must not be missing in silence."""
    root = made(tmp_path, export)
    whole = len(opened(root)[0])
    as_heic(root / folder / "train_5.jpg")
    train, _ = opened(root)
    assert len(train) == whole - 1
    assert "1 pictures of formats that are not read, such as HEIC (save them as .jpg or .png) are left out" in (
        train.remarks)


def test_nothing_but_formats_that_are_not_read(tmp_path):
    root = made(tmp_path, "roboflow_yolo")
    for file in [*(root / "train" / "images").iterdir()]:
        as_heic(file)
    told = "".join(faults_of(root))
    assert "train/images: all of its pictures are of formats that are not read, such as HEIC. Save them as" in told
    root = made(tmp_path / "other", "label_studio_yolo")
    for file in [*(root / "images").iterdir()]:
        as_heic(file)
    with pytest.raises(DetrError, match=r"18 pictures of formats that are not read, such as HEIC \(save them"):
        opened(root)


@pytest.mark.parametrize("old, new", [("train_5.jpg", "train_5.HEIC"), ("nothing", "")], ids=["named", "by its stem"])
def test_an_annotation_of_a_format_that_is_not_read(tmp_path, old, new):
    """The file is there, so it must not be called missing."""
    root = made(tmp_path, "pascal_voc") / "VOCdevkit" / "VOC2012"
    rewritten(root / "Annotations" / "train_5.xml", lambda text: text.replace(old, new))
    as_heic(root / "JPEGImages" / "train_5.jpg")
    (fault,) = faults_of(tmp_path)
    assert "(train_5.HEIC): its picture is of a format that is not read. Save it as .jpg or .png." in fault


def test_turned_pictures_are_labelled_upright(tmp_path):
    root = made(tmp_path, "roboflow_yolo")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 32)).save(root / "train" / "images" / "train_0.jpg", exif=exif)  # shown as 32 x 40
    train, _ = opened(root)
    place = next(p for p, image in enumerate(train.images) if image.path.endswith("train_0.jpg"))
    assert read_sample(train.images[place], train.annotations(place)).image.size == (32, 40)
    assert np.allclose(train.annotations(place).boxes[0], MADE[0].objects[0][1:], atol=1e-3)


def test_polygons_are_outlines(tmp_path):
    """With --masks they are drawn; boxes alone are refused there, each named."""
    train, _ = open_splits(Config().replace(coco_path=str(made(tmp_path, "ultralytics_yolo"))).data, masks=True)
    x, y, w, h = MADE[0].objects[0][1:]
    place = next(p for p, image in enumerate(train.images) if image.path.endswith("train_0.png"))
    drawn = segmentation_masks(train.annotations(place).segmentations, 40, 32)[0]
    assert drawn[y:y + h, x:x + w].all() and drawn.sum() == w * h
    with pytest.raises(DatasetError, match=r"labels/train_0.txt line 1, .*has no segmentation"):
        open_splits(Config().replace(coco_path=str(made(tmp_path / "b", "roboflow_yolo"))).data, masks=True)


def test_difficult_objects(tmp_path):
    root = made(tmp_path, "roboflow_voc")
    rewritten(root / "train" / "train_0.xml", lambda text: text.replace(
        "</name>", "</name><difficult>1</difficult>", 1))
    train, _ = opened(root)
    assert train.objects.difficult.sum() == 1
    place = next(p for p, image in enumerate(train.images) if image.path.endswith("train_0.jpg"))
    samples = [read_sample(train.images[place], train.annotations(place), without) for without in (False, True)]
    assert [len(sample.boxes) for sample in samples] == [2, 1]


def test_a_picture_that_two_records_can_mean_is_refused(tmp_path):
    """One of another folder, and one of another split, is not taken for it."""
    root = made(tmp_path, "datumaro_coco")
    names_of_pictures(lambda n: f"b/{n}" if n == "train_2.jpg" else "train_2.jpg" if n == "train_3.jpg" else n)(root)
    fault, = faults_of(root)
    assert "b/train_2.jpg" in fault and "no such file" in fault
    root = made(tmp_path / "other", "datumaro_coco")
    (root / "images" / "train" / "train_2.jpg").rename(root / "images" / "val" / "train_2.jpg")
    fault, = faults_of(root)
    assert "train_2.jpg" in fault and "the nearest name there is images/val/train_2.jpg" in fault


def test_the_nearest_name_is_proposed(tmp_path):
    root = made(tmp_path, "datumaro_coco")
    names_of_pictures(lambda n: "train_2.jgp.jpg" if n == "train_2.jpg" else n)(root)
    fault, = faults_of(root)
    assert "image 3 (train_2.jgp.jpg; the nearest name there is images/train/train_2.jpg)" in fault


@pytest.mark.parametrize("change, told", [
    (lambda record: record["shapes"][1].update(points=[[1, 2]]), "shape 2 (rectangle): has no points"),
    (lambda record: record["shapes"].append(7), "shape 4: is not a JSON object"),
    (lambda record: record.update(imagePath=5), "has no shapes and no imagePath")])
def test_a_fault_of_labelmes_file_names_file_and_shape(tmp_path, change, told):
    file = made(tmp_path, "labelme_files") / "train" / "train_0.json"
    record = json.loads(file.read_text())
    del record["shapes"][3:]
    change(record)
    file.write_text(json.dumps(record))
    fault, = faults_of(tmp_path)
    assert fault.startswith("train/train_0.json") and told in fault
