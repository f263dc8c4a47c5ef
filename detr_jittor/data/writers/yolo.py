"""Ultralytics' layout of YOLO's format, written: data.yaml, images/train, labels/train and so on."""

from pathlib import Path

import yaml

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.masks import Rectangle
from detr_jittor.data.writers.names import place_picture


def write(folder: Path, splits: dict[str, CocoIndex], names: dict[str, list[str]], copy: bool) -> list[str]:
    """Classes are counted from 0 in the order of their ids; outlines are written where the index has them.

    Returns: what is lost, in words.
    """
    classes = next(iter(splits.values())).classes
    number_of = {label: number for number, label in enumerate(classes.labels)}
    crowds = runs = difficult = 0
    for split, index in splits.items():
        for place, (image, name) in enumerate(zip(index.images, names[split])):
            place_picture(image.path, folder / "images" / split / name, copy)
            lines, objects = [], index.annotations(place)
            for row in range(len(objects)):
                if objects.iscrowd[row] and not isinstance(outline_of(objects, row), Rectangle):
                    crowds += 1
                    continue
                runs += isinstance(outline_of(objects, row), dict)
                difficult += bool(objects.difficult[row])
                values = fractions(objects.boxes[row].tolist(), outline_of(objects, row), image.width, image.height)
                lines.append(" ".join([str(number_of[int(objects.labels[row])]), *(f"{v:.8g}" for v in values)]))
            file = (folder / "labels" / split / name).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{line}\n" for line in lines))
    description = {split: f"images/{split}" for split in splits}
    description |= {"nc": len(classes.names), "names": dict(enumerate(classes.names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(description, allow_unicode=True, sort_keys=False), "utf-8")
    return [f"{count} {what}" for count, what in (
        (crowds, "crowds are left out, which YOLO has not"), (runs, "outlines are run lengths: boxes are written"),
        (difficult, "objects are no longer marked difficult")) if count]


def outline_of(objects, row: int):
    return objects.segmentations[row] if objects.segmentations is not None else None


def fractions(box: list[float], outline, width: int, height: int) -> list[float]:
    """Middle, width and height of the box, or the corners of the outline, by the picture's size."""
    sides = (width, height)
    if not isinstance(outline, list) or isinstance(outline, Rectangle):
        x1, y1, x2, y2 = (min(max(v, 0), side) for v, side in zip(
            (box[0], box[1], box[0] + box[2], box[1] + box[3]), sides * 2))
        return [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    first, corners = outline[0][:2], list(outline[0])
    for number, polygon in enumerate(outline[1:]):  # a line holds one polygon: others are joined to its first corner
        corners += [*(() if number else first), *polygon, *polygon[:2], *first]
    return [min(max(v / sides[i % 2], 0), 1) for i, v in enumerate(corners)]
