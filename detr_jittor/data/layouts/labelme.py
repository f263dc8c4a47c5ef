"""labelme's own files: a JSON file a picture, beside it, with shapes."""

import json
import math
from functools import partial
from pathlib import PurePosixPath

from detr_jittor.data.columns import is_number, shortened
from detr_jittor.data.content import Content
from detr_jittor.data.faults import Fault
from detr_jittor.data.layouts.layout import Layout
from detr_jittor.data.listing import Listing
from detr_jittor.data.split_names import split_of_folders

LOOKED_AT = 20  # JSON files by which it is seen whether they are labelme's
NOT_OBJECTS = ("point", "line", "linestrip")  # shapes without an area


def find(listing: Listing) -> Layout | None:
    files = listing.with_suffix(".json")
    if not any(is_labelme(listing, name) for name in files[:LOOKED_AT]):
        return None
    files = [name for name in files if is_labelme(listing, name)]
    parts: dict[str, list[str]] = {}
    for name in files:
        parts.setdefault(split_of_folders(name), []).append(name)
    return Layout(listing.root, f"labelme ({len(files)} JSON files)",
                  {split: partial(read, listing, names, files, split) for split, names in parts.items()})


def is_labelme(listing: Listing, name: str) -> bool:
    try:
        content = (listing.root / name).read_bytes()
    except OSError:
        return False
    return b'"shapes"' in content and b'"imagePath"' in content


def read(listing: Listing, names: list[str], files: list[str], split: str) -> Content:
    """Args: names: the files of the split; files: of all splits, for the classes."""
    records = {name: parsed(listing, name) for name in files}
    labels = sorted({str(shape.get("label")) for record in records.values() if type(record) is dict
                     for shape in shapes_of(record)})
    content = Content(split or "all", listing.root, [], [], [{"id": n, "name": name} for n, name in enumerate(labels)],
                      listing.root, listing, split, {"image": [], "annotation": []})
    number_of, left_out = {name: n for n, name in enumerate(labels)}, 0
    for name in names:
        record = records[name]
        if isinstance(record, Fault):
            content.faults.append(record)
            continue
        image, folder = len(content.images) + 1, str(PurePosixPath(name).parent)
        size = {key: record[of] for key, of in (("height", "imageHeight"), ("width", "imageWidth"))
                if record.get(of) is not None}
        picture = f"{folder}/{record['imagePath']}" if folder != "." else record["imagePath"]
        content.images.append({"id": image, "file_name": picture, **size})
        content.called["image"].append(name)
        left_out += add_shapes(content, record, image, name, number_of)
    if left_out:
        content.remarks.append(f"{left_out} shapes are points or lines, which are no objects: they are left out")
    return content


def parsed(listing: Listing, name: str) -> dict | Fault:
    try:
        record = json.loads((listing.root / name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return Fault(name, f"cannot be read ({shortened(str(error))})", "Correct it.")
    if type(record) is not dict or type(record.get("shapes")) is not list or type(record.get("imagePath")) is not str:
        return Fault(name, "has no shapes and no imagePath", "Save it again with labelme.")
    return record


def shapes_of(record: dict) -> list[dict]:
    """The shapes that are objects."""
    return [shape for shape in record["shapes"] if type(shape) is dict
            and shape.get("shape_type") not in NOT_OBJECTS]


def add_shapes(content: Content, record: dict, image: int, name: str, number_of: dict[str, int]) -> int:
    """Add the objects of a picture: shapes of one label with the same group_id are one. Returns: how many shapes are
    points or lines."""
    groups: dict[tuple, dict] = {}
    left_out = 0
    for place, shape in enumerate(record["shapes"], 1):
        called = f"{name} shape {place}"
        if type(shape) is not dict:
            content.faults.append(Fault(called, "is not a JSON object", "Remove it."))
        elif shape.get("shape_type") in NOT_OBJECTS:
            left_out += 1
        elif outline := outline_of(shape):
            group = (str(shape.get("label")), place if shape.get("group_id") is None else str(shape["group_id"]))
            if group not in groups:
                groups[group] = {"id": len(content.annotations) + 1, "image_id": image, "iscrowd": 0,
                                 "category_id": number_of[group[0]], "segmentation": [],
                                 "difficult": int(bool(flags_of(shape).get("difficult")))}
                content.annotations.append(groups[group])
                content.called["annotation"].append(called)
            groups[group]["segmentation"].append(outline)
        else:
            content.faults.append(Fault(f"{called} ({shortened(shape.get('shape_type'))})",
                                        "has no points that make such a shape", "Draw it again or remove it."))
    for item in groups.values():
        xs, ys = ([v for outline in item["segmentation"] for v in outline[first::2]] for first in (0, 1))
        item["bbox"] = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        item["area"] = sum(map(area_of, item["segmentation"]))
    return left_out


def flags_of(shape: dict) -> dict:
    return shape["flags"] if type(shape.get("flags")) is dict else {}


def outline_of(shape: dict) -> list[float]:
    """[x, y, …] of a shape; empty if its points do not make one."""
    points = shape.get("points")
    if type(points) is not list or not all(type(p) is list and len(p) == 2 and all(map(is_number, p)) for p in points):
        return []
    kind = shape.get("shape_type", "polygon")
    if kind in ("rectangle", "mask") and len(points) == 2:
        (x1, y1), (x2, y2) = points
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        turns = (2 * math.pi * k / 32 for k in range(32))
        return [v for turn in turns for v in (x + radius * math.cos(turn), y + radius * math.sin(turn))]
    return [v for point in points for v in point] if len(points) >= 3 else []


def area_of(outline: list[float]) -> float:
    xs, ys = outline[::2], outline[1::2]
    return abs(sum(x * ys[i - 1] - xs[i - 1] * y for i, (x, y) in enumerate(zip(xs, ys)))) / 2
