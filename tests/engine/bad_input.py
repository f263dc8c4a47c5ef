"""Bad input, made by code: pictures and annotation files, each with what it gets.

read: it is used. left out: the picture is left out, named and counted, and the run goes on. refused: the run does not
start; one line names the file, the record and the fix. docs/reliability.md has the same table.
"""

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 6, 3), dtype=np.uint8))
PICTURE = np.asarray(NOISE.resize((48, 32)))
NOT_A_NUMBER, INFINITE = float("nan"), float("inf")


class Case(NamedTuple):
    make: Callable  # of pictures: (path) → None; of annotation files: (content) → its text, or None where it is changed
    outcome: str  # "read", "left out" or "refused"
    told: str = ""  # what the message or the remark says
    size: tuple[int, int] = (32, 48)  # (height, width) that the annotation file gives the picture


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(mode: str = "RGB", format: str = "JPEG", **options) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(encoded(Image.fromarray(PICTURE).convert(mode), format, **options))


def content(text: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text)


def of_size(height: int, width: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(encoded(Image.new("RGB", (width, height), "red"), "PNG"))


def one_bit_png(height: int, width: int) -> bytes:
    """Black, a row at a time, so that no memory is needed for a bomb."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(PICTURE), "JPEG", exif=exif)


def damaged_exif() -> bytes:
    """The orientation is a text."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01x" + bytes(7)
    return encoded(Image.fromarray(PICTURE), "JPEG", exif=exif)


def animated() -> bytes:
    return encoded(Image.fromarray(PICTURE), "GIF", save_all=True, append_images=[Image.new("RGB", (48, 32))])


JPEG = encoded(Image.fromarray(PICTURE), "JPEG", quality=95)
FRAME = JPEG.index(b"\xff\xc0")  # its frame header: marker, length, bits of a sample
DEEP_JPEG = JPEG[:FRAME + 4] + b"\x0c" + JPEG[FRAME + 5:]
HEIC = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(99)  # as a telephone begins it
JPEG_XL = struct.pack(">I4sI", 12, b"JXL ", 0x0D0A870A) + bytes(99)
DEEP = encoded(Image.fromarray(PICTURE[:, :, 0].astype(np.uint16) * 257), "PNG")
PICTURES = {
    "zero bytes": Case(content(b""), "left out", "the file is empty"),
    "HTML named .jpg": Case(content(b"<!DOCTYPE html><title>404</title>"), "left out", "of no known format"),
    "JPEG of 12 bits": Case(content(DEEP_JPEG), "left out", "a JPEG of 12 bits a sample, which Pillow does not read"),
    "HEIC": Case(content(HEIC), "left out", "HEIC, which Pillow does not read"),
    "JPEG XL": Case(content(JPEG_XL), "left out", "JPEG XL, which Pillow does not read"),
    "cut in half": Case(content(JPEG[:len(JPEG) // 2]), "left out", "truncated"),
    "no end marker": Case(content(JPEG[:-2]), "left out", "truncated"),
    "CMYK": Case(picture("CMYK"), "read"),
    "grey": Case(picture("L"), "read"),
    "grey and alpha": Case(picture("LA", "PNG"), "read"),
    "palette": Case(picture("P", "PNG"), "read"),
    "one bit": Case(picture("1", "PNG"), "read"),
    "16-bit PNG": Case(content(DEEP), "read"),
    "animated": Case(content(animated()), "read"),
    "turned by EXIF, annotated as stored": Case(content(turned()), "read"),
    "turned by EXIF, annotated upright": Case(content(turned()), "read", size=(48, 32)),
    "damaged EXIF, annotated upright": Case(content(damaged_exif()), "left out", "has 48×32 pixels", (48, 32)),
    "another size than annotated": Case(of_size(32, 47), "left out", "has 47×32 pixels"),
    "1×1": Case(of_size(1, 1), "read", size=(1, 1)),
    "1×3000": Case(of_size(1, 3000), "read", size=(1, 3000)),
    "3000×1": Case(of_size(3000, 1), "read", size=(3000, 1)),
    "12,000×12,000": Case(content(one_bit_png(12_000, 12_000)), "read", size=(12_000, 12_000)),
    "decompression bomb": Case(content(one_bit_png(20_000, 20_000)), "left out", "exceeds limit", (20_000, 20_000)),
    "wrong extension": Case(picture("RGB", "PNG"), "read"),
    "a folder": Case(lambda path: path.mkdir(), "left out", "Is a directory"),
    "a broken link": Case(lambda path: path.symlink_to("gone.jpg"), "left out", "No such file"),
    "a link out of the folder": Case(lambda path: elsewhere(path), "read"),
}


def elsewhere(path: Path) -> None:
    target = path.parents[2] / "elsewhere.jpg"
    target.write_bytes(JPEG)
    path.symlink_to(target)


def without(kind: str, key: str) -> Callable[[dict], None]:
    return lambda data: data[kind][2].__delitem__(key)


def with_value(kind: str, key: str, value) -> Callable[[dict], None]:
    return lambda data: data[kind][2].__setitem__(key, value)


def all_ids(change: Callable) -> Callable[[dict], None]:
    """Change the ids of all images and categories, and what points to them."""
    def make(data: dict) -> None:
        for record in [*data["images"], *data["categories"]]:
            record["id"] = change(record["id"])
        for record in data["annotations"]:
            record["image_id"], record["category_id"] = change(record["image_id"]), change(record["category_id"])
    return make


def twice(kind: str) -> Callable[[dict], None]:
    return lambda data: data[kind].append(dict(data[kind][2]))


def all_crowds(data: dict) -> None:
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 1


def crowded(data: dict) -> None:
    """More objects than there are queries."""
    first = data["annotations"][2]
    data["annotations"] += [{**first, "id": 1000 + i} for i in range(100)]


REQUIRED = {"images": ("id", "file_name"), "annotations": ("id", "image_id", "category_id", "bbox"),
            "categories": ("id", "name")}
WRONG = {"images": {"id": [1], "file_name": 5, "height": "32 px", "width": 4.5},
         "annotations": {"id": None, "image_id": {}, "category_id": True, "bbox": "1 2 3 4", "area": [], "iscrowd": 7},
         "categories": {"id": "one", "name": [5]}}


ANNOTATIONS = {
    "not JSON": Case(lambda data: "{", "refused", "not valid JSON"),
    "not an object": Case(lambda data: "[1]", "refused", "not a JSON object"),
    "lists nested 100,000 deep": Case(lambda data: "[" * 100_000, "refused", "not valid JSON"),
    **{f"no list of {kind}": Case(lambda data, kind=kind: data.pop(kind) and None, "refused", f"no list of {kind}")
       for kind in REQUIRED},
    **{f"{kind} without {key}": Case(without(kind, key), "refused", f"has no {key}")
       for kind, keys in REQUIRED.items() for key in keys},
    **{f"images without {key}": Case(without("images", key), "read", "have no width and height")
       for key in ("height", "width")},
    "annotations without area": Case(without("annotations", "area"), "read", "have no area"),
    "annotations without iscrowd": Case(without("annotations", "iscrowd"), "read", "have no iscrowd"),
    **{f"{kind}: {key} of a wrong type": Case(with_value(kind, key, value), "refused", f"{key} is not")
       for kind, values in WRONG.items() for key, value in values.items()},
    "category name with half a character": Case(with_value("categories", "name", "\ud83d"), "refused", "name is not"),
    "category names with control characters": Case(
        lambda data: [c.update(name="red\n\x1b[2K") for c in data["categories"][1:]] and None, "read",
        r"share a name (red\n\x1b[2K)"),
    "file_name with half a character": Case(with_value("images", "file_name", "\udce9.png"), "refused",
                                            "file_name is not"),
    "sparse ids": Case(all_ids(lambda i: 7919 * i), "read"),
    "ids from 0": Case(all_ids(lambda i: i - 1), "read"),
    "ids that are numbers as texts": Case(all_ids(str), "read", "they are read as what they mean"),
    "ids that are other texts": Case(all_ids("n{}".format), "refused", "id is not an integer"),
    "numbers as texts": Case(lambda data: [a.update(bbox=[*map(str, a["bbox"])], iscrowd="0", area=str(a["area"]))
                                           for a in data["annotations"]] and None, "read", "bbox of 11, area of 11"),
    "whole numbers with a decimal point": Case(all_ids(float), "read", "they are read as what they mean"),
    "a category name that is a number": Case(lambda data: [c.update(name=7 + c["id"]) for c in data["categories"]] and
                                             None, "read", "name of 3"),
    "a category twice": Case(twice("categories"), "read", "1 categories are given again"),
    "a category id twice": Case(lambda data: data["categories"].append({"id": 1, "name": "black"}), "refused",
                                "id occurs more than once"),
    "annotation id 0": Case(with_value("annotations", "id", 0), "read"),
    "image id twice": Case(twice("images"), "refused", "id occurs more than once"),
    "annotation id twice": Case(twice("annotations"), "read", "are counted anew"),
    "unknown image": Case(with_value("annotations", "image_id", 999), "refused", "not the id of an image"),
    "unknown category": Case(with_value("annotations", "category_id", 999), "refused", "not the id of a category"),
    "NaN box": Case(with_value("annotations", "bbox", [1, 2, NOT_A_NUMBER, 4]), "refused", "bbox is not"),
    "infinite box": Case(with_value("annotations", "bbox", [1, 2, INFINITE, 4]), "refused", "bbox is not"),
    "box of a width of −1e-9": Case(with_value("annotations", "bbox", [9, 9, -1e-9, 4]), "read", "have no area"),
    "negative box": Case(with_value("annotations", "bbox", [9, 9, -5, 4]), "refused", "bbox is not"),
    "box without area": Case(with_value("annotations", "bbox", [1, 2, 0, 4]), "read", "have no area"),
    "box partly outside": Case(with_value("annotations", "bbox", [-5, 2, 20, 8]), "read", "reach past their picture"),
    "box wholly outside": Case(with_value("annotations", "bbox", [900, 2, 5, 5]), "refused", "lies outside"),
    "box just outside": Case(with_value("annotations", "bbox", [48.3, 2, 5, 5]), "read", "lie just outside"),
    "many boxes just outside": Case(lambda data: [a.update(bbox=[48.3, 2, 5, 5]) for a in data["annotations"][:6]] and
                                    None, "refused", "lies outside"),
    "boxes as fractions": Case(lambda data: [a.update(bbox=[v / 64 for v in a["bbox"]]) for a in data["annotations"]]
                               and None, "refused", "are they fractions of the picture's size?"),
    "more objects than queries": Case(crowded, "read", "more than 100 objects"),
    "crowds only": Case(all_crowds, "refused", "nothing to train on: all of its 11 objects are crowds"),
    "no annotations": Case(lambda data: data["annotations"].clear(), "refused", "nothing to train on: it has no obj"),
    "no images": Case(lambda data: [data[kind].clear() for kind in ("images", "annotations")] and None, "refused",
                      "images: the list is empty"),
    "file_name with ..": Case(with_value("images", "file_name", "../nowhere.png"), "refused", "leads out of"),
    "file_name with slashes of Windows": Case(with_value("images", "file_name", "images\\3.png"), "read",
                                              "under another form of their name"),
    "file_name with a folder too much": Case(with_value("images", "file_name", "train2017/3.png"), "read",
                                             "under another form of their name"),
    "file_name in capitals": Case(with_value("images", "file_name", "3.PNG"), "read",
                                  "under another form of their name"),
    "file_name that is the address of a picture": Case(
        with_value("images", "file_name", "https://host/a/3.png?token=1"), "read", "under another form of their name"),
    "absolute file_name": Case(with_value("images", "file_name", "/etc/passwd"), "refused", "leads out of"),
    "file_name of nothing": Case(with_value("images", "file_name", "nowhere.jpg"), "refused", "no such file"),
}


def write_panoptic(coco: Path) -> Path:
    """The pictures of a dataset in COCO's panoptic layout too: the middle of each is a thing, the rest the ground."""
    root = coco.parent / "panoptic"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        content = json.loads((coco / "annotations" / f"instances_{split}2017.json").read_text())
        folder = root / f"panoptic_{split}2017"
        folder.mkdir()
        annotations = []
        for image, thing in zip(content["images"], content["annotations"]):
            h, w, name = image["height"], image["width"], f"{image['id']}.png"
            ids = np.full((h, w, 3), (0, 7, 0), np.uint8)  # 7 · 256
            ids[h // 4:h // 4 * 3, w // 4:w // 4 * 3] = (5, 0, 0)
            Image.fromarray(ids).save(folder / name)
            keys = ("category_id", "bbox", "area", "iscrowd")
            ground = {"category_id": 100, "bbox": [0, 0, w, h], "area": w * h - w * h / 4, "iscrowd": 0}
            annotations.append({"image_id": image["id"], "file_name": name, "segments_info": [
                {"id": 5, **{key: thing[key] for key in keys}}, {"id": 1792, **ground}]})
        categories = [{**c, "isthing": 1} for c in content["categories"]]
        categories.append({"id": 100, "name": "ground", "isthing": 0})
        (root / "annotations" / f"panoptic_{split}2017.json").write_text(json.dumps(
            {"images": content["images"], "annotations": annotations, "categories": categories}))
    return root


def record(data: dict, kind: str) -> dict:
    """The third record of a kind; its first segment."""
    return data["annotations"][2]["segments_info"][0] if kind == "segments" else data[kind][2]


PANOPTIC_REQUIRED = {"images": ("id", "file_name"),
                     "annotations": ("image_id", "file_name", "segments_info"),
                     "segments": ("id", "category_id", "bbox"), "categories": ("id", "name", "isthing")}
PANOPTIC_WRONG = {"images": {"id": [1], "file_name": 5, "height": "32 px", "width": 4.5},
                  "annotations": {"image_id": "three", "file_name": "\ud83d", "segments_info": {}},
                  "segments": {"id": 256 ** 3, "category_id": 1.5, "bbox": [1, 2, 3], "area": "a", "iscrowd": None},
                  "categories": {"id": "one", "name": [5], "isthing": 2}}


def as_texts(data: dict) -> None:
    """Every number of the pictures, segments and categories as a text."""
    segments = [segment for annotation in data["annotations"] for segment in annotation["segments_info"]]
    for record in (*data["images"], *data["annotations"], *data["categories"], *segments):
        record.update({key: str(value) for key, value in record.items() if type(value) is int})


def in_thousands(data: dict) -> None:
    """The same categories under large numbers."""
    for category in data["categories"]:
        category["id"] *= 1000
    for annotation in data["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] *= 1000


def set_in(kind: str, key: str, value) -> Callable[[dict], None]:
    return lambda data: record(data, kind).__setitem__(key, value)


PANOPTIC = {  # annotation files; those of the segments in PNG are below
    "not JSON": Case(lambda data: "{", "refused", "not valid JSON"),
    "not an object": Case(lambda data: "[1]", "refused", "not a JSON object"),
    **{f"no list of {kind}": Case(lambda data, kind=kind: data.pop(kind) and None, "refused", f"no list of {kind}")
       for kind in REQUIRED},
    **{f"{kind} without {key}": Case(lambda data, kind=kind, key=key: record(data, kind).__delitem__(key), "refused",
                                     f"has no {key}")
       for kind, keys in PANOPTIC_REQUIRED.items() for key in keys},
    **{f"images without {key}": Case(without("images", key), "read", "have no width and height")
       for key in ("height", "width")},
    "segments without area": Case(lambda data: record(data, "segments").__delitem__("area"), "read", "have no area"),
    "segments without iscrowd": Case(lambda data: record(data, "segments").__delitem__("iscrowd"), "read",
                                     "have no iscrowd"),
    **{f"{kind}: {key} of a wrong type": Case(set_in(kind, key, value), "refused", f"{key} is not")
       for kind, values in PANOPTIC_WRONG.items() for key, value in values.items()},
    "numbers as texts": Case(lambda data: as_texts(data), "read", "they are read as what they mean"),
    "a segment that is no object": Case(lambda data: data["annotations"][2]["segments_info"].append(7), "refused",
                                        "is not a JSON object"),
    "segment id 0": Case(set_in("segments", "id", 0), "refused", "id is not"),
    "segment id twice": Case(set_in("segments", "id", 1792), "refused", "id occurs more than once"),
    "unknown image": Case(set_in("annotations", "image_id", 999), "refused", "not the id of an image"),
    "unknown category": Case(set_in("segments", "category_id", 99), "refused", "not the id of a category"),
    "category ids of thousands": Case(lambda data: in_thousands(data), "read"),
    "stuff numbered as a thing": Case(set_in("categories", "isthing", 0), "read"),
    "NaN box": Case(set_in("segments", "bbox", [1, 2, NOT_A_NUMBER, 4]), "refused", "bbox is not"),
    "box wholly outside": Case(set_in("segments", "bbox", [900, 2, 5, 5]), "refused", "lies outside"),
    "a picture without annotation": Case(lambda data: data["annotations"].pop(2) and None, "refused",
                                         "has no annotation"),
    "a picture with two annotations": Case(lambda data: data["annotations"].append(dict(record(data, "annotations"))),
                                           "refused", "image_id occurs more than once"),
    "one PNG of two pictures": Case(set_in("annotations", "file_name", "1.png"), "refused",
                                    "file_name occurs more than once"),
    "a picture without segments": Case(set_in("annotations", "segments_info", []), "read"),
    "no images": Case(lambda data: [data[kind].clear() for kind in ("images", "annotations")] and None, "refused",
                      "images: the list is empty"),
    "file_name with ..": Case(set_in("annotations", "file_name", "../panoptic_train2017/3.png"), "refused",
                              "leads out of"),
    "file_name of nothing": Case(set_in("annotations", "file_name", "nowhere.png"), "refused", "no such file"),
    "more segments than queries": Case(lambda data: data["annotations"][2]["segments_info"].extend(
        [{**record(data, "segments"), "id": 2000 + i} for i in range(100)]), "read", "more than 100 objects"),
}


def painted(colour: tuple, mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Callable[[Path], None]:
    """A PNG of one colour."""
    return lambda path: path.write_bytes(encoded(Image.new("RGB", size, colour).convert(mode), "PNG"))


SEGMENTS = {
    "zero bytes": Case(content(b""), "left out", "the file is empty"),
    "HTML named .png": Case(content(b"<!DOCTYPE html><title>404</title>"), "left out", "of no known format"),
    "cut in half": Case(lambda path: path.write_bytes(path.read_bytes()[:60]), "left out", "truncated"),
    "another size than the picture": Case(painted((5, 0, 0), size=(47, 32)), "left out", "has 47×32 pixels"),
    "no pixel of a segment": Case(painted((5, 0, 0)), "left out", "has no pixel of segment 1792"),
    "one channel": Case(painted((5, 5, 5), "L"), "left out", "has no pixel of segment 5"),
    "a folder": Case(lambda path: (path.unlink(), path.mkdir()), "left out", "Is a directory"),
    "a broken link": Case(lambda path: (path.unlink(), path.symlink_to("gone.png")), "left out", "No such file"),
    "pixels of no segment": Case(lambda path: with_unknown(path), "read"),
}


def with_unknown(path: Path) -> None:
    ids = np.array(Image.open(path))
    ids[0] = (1, 2, 3)
    Image.fromarray(ids).save(path)
