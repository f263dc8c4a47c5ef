"""The same few pictures as each tool exports them: its folders, its names, its peculiarities.

A picture of one colour has an object of that colour's class, so that a model of mean colours can learn them; every
third has a second object.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
NAMES = tuple(COLOURS)
COUNTS = {"train": 12, "val": 6}


@dataclass(frozen=True)
class Made:
    """A picture: its split and stem, its size, and its objects as (class number, x, y, width, height) in pixels."""

    split: str
    stem: str
    width: int
    height: int
    objects: tuple[tuple[int, int, int, int, int], ...]

    def save(self, file: Path) -> None:
        random = np.random.default_rng(list(self.stem.encode()))
        noise = random.normal(COLOURS[NAMES[self.objects[0][0]]], 20, (self.height, self.width, 3))
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(file)


def pictures() -> list[Made]:
    made = []
    for split, count in COUNTS.items():
        for number in range(count):
            width, height = (48, 32) if number % 2 else (32, 40)
            objects = [(number % 3, width // 4, height // 4, width // 2, height // 2)]
            if number % 3 == 0:
                objects.append(((number // 3) % 3, 2, 3, 10, 12))
            made.append(Made(split, f"{split}_{number}", width, height, tuple(objects)))
    return made


def write_text(file: Path, text: str, encoding: str = "utf-8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding)


def coco(made: list[Made], name: Callable[[Made], str], first_id: int = 1, categories: list | None = None,
         with_size: bool = True, with_area: bool = True, category_from: int = 0, **extra) -> dict:
    """A COCO file. Args: extra: of each annotation."""
    images, annotations = [], []
    for number, picture in enumerate(made, first_id):
        size = {"width": picture.width, "height": picture.height} if with_size else {}
        images.append({"id": number, "file_name": name(picture), **size})
        for label, *box in picture.objects:
            annotations.append({"id": first_id + len(annotations), "image_id": number,
                                "category_id": label + category_from, "bbox": box, **extra})
            if with_area:
                annotations[-1]["area"] = box[2] * box[3]
    categories = categories or [{"id": n + category_from, "name": c} for n, c in enumerate(NAMES)]
    return {"images": images, "categories": categories, "annotations": annotations}


def yolo_lines(picture: Made) -> str:
    lines = []
    for label, x, y, w, h in picture.objects:
        numbers = ((x + w / 2) / picture.width, (y + h / 2) / picture.height, w / picture.width, h / picture.height)
        lines.append(f"{label} {' '.join(f'{n:.6f}' for n in numbers)}")
    return "\n".join(lines)


def polygon_lines(picture: Made) -> str:
    """The corners of the boxes as polygons."""
    lines = []
    for label, x, y, w, h in picture.objects:
        corners = (x, y, x + w, y, x + w, y + h, x, y + h)
        numbers = (v / side for v, side in zip(corners, (picture.width, picture.height) * 4))
        lines.append(f"{label} {' '.join(f'{n:.6f}' for n in numbers)}")
    return "\n".join(lines)


def voc_xml(picture: Made, filename: str, shift: int = 1, size: bool = True, extra: str = "",
            corner: str = "{}") -> str:
    """Args: shift: what pixels count from; extra: of each object; corner: how a number is written."""
    objects = "".join(
        f"<object><name>{escape(NAMES[label])}</name>{extra}<bndbox>"
        f"<xmin>{corner.format(x + shift)}</xmin><ymin>{corner.format(y + shift)}</ymin>"
        f"<xmax>{corner.format(x + w)}</xmax><ymax>{corner.format(y + h)}</ymax></bndbox></object>"
        for label, x, y, w, h in picture.objects)
    sides = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
    return (f"<annotation><folder>x</folder><filename>{escape(filename)}</filename>{sides if size else ''}"
            f"<segmented>0</segmented>{objects}</annotation>")


def by_split(made: list[Made]) -> dict[str, list[Made]]:
    return {split: [m for m in made if m.split == split] for split in COUNTS}


def roboflow_coco(root: Path, made: list[Made]) -> None:
    """train/, valid/ and test/ with _annotations.coco.json beside the pictures; ids from 0, a category for all others
    that no object has, dates and licenses."""
    for split, mine in by_split(made).items():
        folder = root / {"train": "train", "val": "valid"}[split]
        names = {m.stem: f"{m.stem}_jpg.rf.{number:032x}.jpg" for number, m in enumerate(mine)}
        for picture in mine:
            picture.save(folder / names[picture.stem])
        categories = [{"id": 0, "name": "colours-aBcD", "supercategory": "none"},
                      *({"id": n + 1, "name": c, "supercategory": "colours-aBcD"} for n, c in enumerate(NAMES))]
        content = coco(mine, lambda m, names=names: names[m.stem], 0, categories, category_from=1, segmentation=[],
                       iscrowd=0)
        write_text(folder / "_annotations.coco.json", json.dumps({"info": {"year": "2024"}, "licenses": [], **content}))
    shutil.copytree(root / "valid", root / "test")
    write_text(root / "README.dataset.txt", "# colours > 2024-05-01\n")
    write_text(root / "README.roboflow.txt", "colours - v1\n")


def cvat_coco(root: Path, made: list[Made]) -> None:
    """One instances_default.json for all, images/default/, attributes with each object."""
    for picture in made:
        picture.save(root / "images" / "default" / f"{picture.stem}.png")
    content = coco(made, lambda m: f"{m.stem}.png", category_from=1, segmentation=[], iscrowd=0,
                   attributes={"occluded": False})
    for image in content["images"]:
        image |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    write_text(root / "annotations" / "instances_default.json", json.dumps(content))


def datumaro_coco(root: Path, made: list[Made]) -> None:
    """instances_train.json and instances_val.json, images/train/ and images/val/, other kinds of annotation beside."""
    for split, mine in by_split(made).items():
        for picture in mine:
            picture.save(root / "images" / split / f"{picture.stem}.jpg")
        content = coco(mine, lambda m: f"{m.stem}.jpg", category_from=1, segmentation=[], iscrowd=0)
        write_text(root / "annotations" / f"instances_{split}.json", json.dumps(content))
        write_text(root / "annotations" / f"person_keypoints_{split}.json", json.dumps(content | {"annotations": []}))
        write_text(root / "annotations" / f"image_info_{split}.json", json.dumps({"images": content["images"]}))


def label_studio_coco(root: Path, made: list[Made]) -> None:
    """result.json, whose names have the slashes of Windows; ids from 0, `ignore`; a prefix before each name."""
    for picture in made:
        picture.save(root / "images" / f"0a1b2c3d-{picture.stem}.png")
    content = coco(made, lambda m: f"images\\0a1b2c3d-{m.stem}.png", 0, segmentation=[], ignore=0, iscrowd=0)
    write_text(root / "result.json", json.dumps({**content, "info": {"contributor": "Label Studio"}}))


def label_studio_coco_addresses(root: Path, made: list[Made]) -> None:
    """Names as Label Studio serves local files."""
    for picture in made:
        picture.save(root / "images" / f"{picture.stem} 红.png")
    content = coco(made, lambda m: f"/data/local-files/?d=sets/one/{m.stem}%20%E7%BA%A2.png", 0, segmentation=[],
                   ignore=0, iscrowd=0)
    write_text(root / "result.json", json.dumps(content))


def labelme_coco(root: Path, made: list[Made]) -> None:
    """annotations.json beside JPEGImages/, as labelme2coco.py writes it: names with that folder, null here and there;
    a set a split."""
    for split, mine in by_split(made).items():
        for picture in mine:
            picture.save(root / split / "JPEGImages" / f"{picture.stem}.jpg")
        content = coco(mine, lambda m: f"JPEGImages/{m.stem}.jpg", 0, iscrowd=0, segmentation=[[1, 1, 9, 1, 9, 9]],
                       categories=[{"supercategory": None, "id": n, "name": c} for n, c in enumerate(NAMES)])
        for image in content["images"]:
            image |= {"license": 0, "url": None, "date_captured": None}
        write_text(root / split / "annotations.json", json.dumps(content))


def bare_coco(root: Path, made: list[Made]) -> None:
    """As little as a script writes: no sizes, no area, no iscrowd, a byte-order mark, pictures in folders by class."""
    for picture in made:
        picture.save(root / picture.split / NAMES[picture.objects[0][0]] / f"{picture.stem}.BMP")
    for split, mine in by_split(made).items():
        content = coco(mine, lambda m: f"{NAMES[m.objects[0][0]]}/{m.stem}.BMP", with_size=False, with_area=False)
        write_text(root / f"{split}.json", json.dumps(content), "utf-8-sig")


def several_coco(root: Path, made: list[Made]) -> None:
    """A folder a task, each with its own JSON file and ids from 1, categories in another order."""
    for place, split in enumerate(COUNTS):
        mine = [m for m in made if m.split == split]
        for part in (0, 1):
            folder = root / split / f"task_{part}"
            order = NAMES if part == place else NAMES[::-1]
            content = coco(mine[part::2], lambda m: f"{m.stem}.png", iscrowd=0)
            content["categories"] = [{"id": n, "name": c} for n, c in enumerate(order)]
            for annotation in content["annotations"]:
                annotation["category_id"] = order.index(NAMES[annotation["category_id"]])
            for picture in mine[part::2]:
                picture.save(folder / "images" / f"{picture.stem}.png")
            write_text(folder / "annotations" / "instances_default.json", json.dumps(content))


def roboflow_yolo(root: Path, made: list[Made]) -> None:
    """data.yaml with paths that lead out of the folder, train/images and train/labels, names as a list."""
    for split, mine in by_split(made).items():
        folder = root / {"train": "train", "val": "valid"}[split]
        for picture in mine:
            picture.save(folder / "images" / f"{picture.stem}.jpg")
            write_text(folder / "labels" / f"{picture.stem}.txt", yolo_lines(picture))
    write_text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
               f"names: {list(NAMES)}\n\nroboflow:\n  workspace: x\n  license: CC BY 4.0\n")


def ultralytics_yolo(root: Path, made: list[Made]) -> None:
    """images/train and labels/train, names as a mapping, `path` of another machine, polygons."""
    for picture in made:
        picture.save(root / "images" / picture.split / f"{picture.stem}.png")
        write_text(root / "labels" / picture.split / f"{picture.stem}.txt", polygon_lines(picture) + "\n\n")
    write_text(root / "colours.yaml", "path: ../datasets/colours # dataset root\ntrain: images/train\nval: images/val\n"
               "test:\nnames:\n" + "".join(f"  {n}: {c}\n" for n, c in enumerate(NAMES)))


def cvat_ultralytics(root: Path, made: list[Made]) -> None:
    """Lists of pictures in place of folders."""
    for split, mine in by_split(made).items():
        for picture in mine:
            picture.save(root / "images" / split / f"{picture.stem}.png")
            write_text(root / "labels" / split / f"{picture.stem}.txt", yolo_lines(picture))
        write_text(root / f"{split}.txt", "".join(f"images/{split}/{m.stem}.png\n" for m in mine))
    write_text(root / "data.yaml", "path: .\ntrain: train.txt\nval: val.txt\nnames:\n"
               + "".join(f"  {n}: {c}\n" for n, c in enumerate(NAMES)))


def cvat_yolo(root: Path, made: list[Made]) -> None:
    """CVAT's and Datumaro's "YOLO 1.1": obj.data, obj.names, labels beside the pictures, lists with a folder that is
    not in the archive."""
    for split, mine in by_split(made).items():
        folder = f"obj_{split}_data"
        for picture in mine:
            picture.save(root / folder / f"{picture.stem}.png")
            write_text(root / folder / f"{picture.stem}.txt", yolo_lines(picture))
        write_text(root / f"{split}.txt", "".join(f"data/{folder}/{m.stem}.png\n" for m in mine))
    write_text(root / "obj.names", "\n".join(NAMES) + "\n")
    write_text(root / "obj.data", "classes = 3\ntrain = data/train.txt\nvalid = data/val.txt\nnames = data/obj.names\n"
               "backup = backup/\n")


def label_studio_yolo(root: Path, made: list[Made]) -> None:
    """images/, labels/, classes.txt, notes.json, no split, one picture without a label file."""
    for picture in made:
        picture.save(root / "images" / f"{picture.stem}.jpg")
        write_text(root / "labels" / f"{picture.stem}.txt", yolo_lines(picture))
    write_text(root / "classes.txt", "\n".join(NAMES) + "\n")
    write_text(root / "notes.json", json.dumps({"categories": [{"id": n, "name": c} for n, c in enumerate(NAMES)],
                                                "info": {"year": 2024}}))


def labelimg_yolo(root: Path, made: list[Made]) -> None:
    """Labels and classes.txt beside the pictures, in train/ and val/."""
    for picture in made:
        picture.save(root / picture.split / f"{picture.stem}.jpg")
        write_text(root / picture.split / f"{picture.stem}.txt", yolo_lines(picture))
        write_text(root / picture.split / "classes.txt", "\r\n".join(NAMES) + "\r\n")


def pascal_voc(root: Path, made: list[Made]) -> None:
    """VOC itself, below VOCdevkit/: lists of splits and of classes, parts, pixels from 1."""
    root = root / "VOCdevkit" / "VOC2012"
    extra = "<pose>Left</pose><truncated>1</truncated><difficult>0</difficult><part><name>head</name><bndbox>" \
            "<xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    for picture in made:
        picture.save(root / "JPEGImages" / f"{picture.stem}.jpg")
        write_text(root / "Annotations" / f"{picture.stem}.xml", voc_xml(picture, f"{picture.stem}.jpg", extra=extra))
    sets = root / "ImageSets" / "Main"
    for split, mine in by_split(made).items():
        write_text(sets / f"{split}.txt", "".join(f"{m.stem}\n" for m in mine))
        write_text(sets / f"red_{split}.txt", "".join(f"{m.stem} -1\n" for m in mine))
    write_text(sets / "trainval.txt", "".join(f"{m.stem}\n" for m in made))


def cvat_voc(root: Path, made: list[Made]) -> None:
    """default.txt for all, a label map, corners with decimals that count from 0, attributes."""
    extra = "<truncated>0</truncated><occluded>0</occluded><difficult>0</difficult><attributes><attribute>" \
            "<name>rotation</name><value>0.0</value></attribute></attributes>"
    for picture in made:
        picture.save(root / "JPEGImages" / f"{picture.stem}.png")
        write_text(root / "Annotations" / f"{picture.stem}.xml",
                   voc_xml(picture, f"{picture.stem}.png", 0, extra=extra, corner="{}.00"))
    write_text(root / "ImageSets" / "Main" / "default.txt", "".join(f"{m.stem}\n" for m in made))
    write_text(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"
               + "".join(f"{c}:1,2,3::\n" for c in NAMES))


def label_studio_voc(root: Path, made: list[Made]) -> None:
    """images/ and Annotations/, names of pictures without their suffix, no lists; whole corners that count from 0."""
    for picture in made:
        picture.save(root / "images" / f"{picture.stem}.jpg")
        write_text(root / "Annotations" / f"{picture.stem}.xml", voc_xml(picture, picture.stem, 0).replace(
            "<segmented>", "<owner><flickrid>NULL</flickrid><name>Label Studio</name></owner><segmented>"))


def roboflow_voc(root: Path, made: list[Made]) -> None:
    """XML beside the pictures in train/ and valid/, no sizes."""
    for picture in made:
        folder = root / {"train": "train", "val": "valid"}[picture.split]
        picture.save(folder / f"{picture.stem}.jpg")
        write_text(folder / f"{picture.stem}.xml", voc_xml(picture, f"{picture.stem}.jpg", size=False))


def labelme_voc(root: Path, made: list[Made]) -> None:
    """labelme2voc.py's: decimals, class_names.txt, pictures with their boxes drawn beside the pictures; a set a split.
    """
    for picture in made:
        folder = root / picture.split
        picture.save(folder / "JPEGImages" / f"{picture.stem}.jpg")
        picture.save(folder / "AnnotationsVisualization" / f"{picture.stem}.jpg")
        write_text(folder / "Annotations" / f"{picture.stem}.xml",
                   voc_xml(picture, f"{picture.stem}.jpg", 0, corner="{}.5").replace("<pose/>", ""))
        write_text(folder / "class_names.txt", "\n".join(["_background_", *NAMES]))


def labelme_of_mit(root: Path, made: list[Made]) -> None:
    """The older LabelMe's XML, as Datumaro writes it: polygons of points, sizes under other names, what was deleted."""
    for picture in made:
        picture.save(root / "Images" / picture.split / f"{picture.stem}.png")
        point = "<pt><x>{:.2f}</x><y>{:.2f}</y></pt>"
        objects = "".join(
            f"<object><name>{NAMES[label]}</name><deleted>{deleted}</deleted><id>0</id><polygon>"
            f"{''.join(point.format(*p) for p in ((x, y), (x + w, y), (x + w, y + h), (x, y + h)))}</polygon></object>"
            for deleted in (1, 0) for label, x, y, w, h in picture.objects)
        write_text(root / "Annotations" / picture.split / f"{picture.stem}.xml", (
            f"<annotation><filename>{picture.stem}.png</filename><folder>{picture.split}</folder><imagesize><nrows>"
            f"{picture.height}</nrows><ncols>{picture.width}</ncols></imagesize>{objects}</annotation>"))


def labelme_files(root: Path, made: list[Made]) -> None:
    """labelme's own: a JSON file a picture, beside it; rectangles, polygons in parts, and a point."""
    for picture in made:
        picture.save(root / picture.split / f"{picture.stem}.png")
        shapes = [{"label": NAMES[picture.objects[0][0]], "points": [[1.0, 1.0]], "group_id": None,
                   "shape_type": "point", "flags": {}}]
        for number, (label, x, y, w, h) in enumerate(picture.objects):
            first = {"label": NAMES[label], "group_id": None, "shape_type": "rectangle", "flags": {},
                     "points": [[x + w, y + h], [x, y]]}
            parts = [{**first, "group_id": number, "shape_type": "polygon", "points": points} for points in (
                [[x, y], [x + 4, y], [x, y + 4]], [[x + w, y + h], [x + w, y + h - 4], [x + w - 4, y + h]])]
            shapes += parts if number else [first]
        write_text(root / picture.split / f"{picture.stem}.json", json.dumps({
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{picture.stem}.png", "imageData": None,
            "imageHeight": picture.height, "imageWidth": picture.width}))


EXPORTS: dict[str, Callable[[Path, list[Made]], None]] = {
    f.__name__: f for f in (
        roboflow_coco, cvat_coco, datumaro_coco, label_studio_coco, label_studio_coco_addresses, labelme_coco,
        bare_coco, several_coco, roboflow_yolo, ultralytics_yolo, cvat_ultralytics, cvat_yolo, label_studio_yolo,
        labelimg_yolo, pascal_voc, cvat_voc, label_studio_voc, roboflow_voc,
        labelme_voc, labelme_of_mit, labelme_files)}
# Without a validation split, so that one is made.
WHOLE = ("cvat_coco", "label_studio_coco", "label_studio_coco_addresses", "label_studio_yolo", "cvat_voc",
         "label_studio_voc")
