"""The lines of YOLO's label files → COCO's records."""

import math
import os
from collections.abc import Callable
from pathlib import Path

from detr_jittor.data.columns import shortened
from detr_jittor.data.content import Content
from detr_jittor.data.decode import upright_size
from detr_jittor.data.faults import Fault, listed
from detr_jittor.data.layouts.names import read_text
from detr_jittor.errors import DetrError

FEW = 10  # pictures that cannot be read are left out, as long as they are no more than these, or one of a hundred
FORM = "Give a class number and x y width height, or the corners of a polygon, in fractions of the picture's size."


class LabelReader:
    """Adds pictures and what is in them to a content."""

    def __init__(self, content: Content, keypoints=None):
        """Args: keypoints: what stands as `kpt_shape` in a data.yaml."""
        self.content = content
        self.keypoints = math.prod(map(int, keypoints)) if type(keypoints) is list and all(
            str(k).isdecimal() for k in keypoints) else 0
        self.known = {category["id"] for category in content.categories}
        self.unreadable: list[tuple[str, str]] = []
        self.labels = self.confident = 0  # pictures with a label file; lines with a confidence

    def add(self, picture: str | None, called: str, label_name: Callable[[str], str]) -> None:
        """Args: picture: its path, or None if it is not there; called: by the list that names it, if one does."""
        content = self.content
        if picture is None:
            content.faults.append(Fault(called, "no such picture", "Add it or remove the line."))
            return
        try:
            height, width = upright_size(picture)
        except DetrError as error:
            self.unreadable.append((self.relative(picture), error.what))
            return
        number, name = len(content.images) + 1, self.relative(picture)
        content.images.append({"id": number, "file_name": name, "height": height, "width": width})
        content.called["image"].append(name)
        content.paths.append(picture)
        for label in dict.fromkeys((label_name(picture), os.path.splitext(picture)[0] + ".txt")):
            if os.path.isfile(label):
                self.labels += 1
                self.read(label, number, height, width)
                break

    def relative(self, path: str) -> str:
        """A path as messages have it: relative to the root where it is below."""
        root = os.path.join(self.content.folder, "")
        return path.removeprefix(root)

    def read(self, label: str, image: int, height: int, width: int) -> None:
        name = self.relative(label)
        for number, line in enumerate(read_text(Path(label)).splitlines(), 1):
            if words := line.split():
                called = f"{name} line {number}"
                record = self.record(words, called, height, width)
                if record is not None:
                    self.content.annotations.append(
                        {"id": len(self.content.annotations) + 1, "image_id": image, "iscrowd": 0, **record})
                    self.content.called["annotation"].append(called)

    def record(self, words: list[str], called: str, height: int, width: int) -> dict | None:
        try:
            number, *values = map(float, words)
            is_finite = all(map(math.isfinite, (number, *values)))
        except ValueError:
            is_finite = False
        if not is_finite:
            return self.fault(called, "holds something that is no number", FORM, " ".join(words))
        if not number.is_integer() or abs(number) > 2**31:
            return self.fault(called, "does not begin with a class number", FORM, words[0])
        if self.known and number not in self.known:
            return self.fault(called, f"its class is not among those of {self.content.file.name}, "
                              f"{min(self.known)} … {max(self.known)}", "Count the classes from 0, or name this one.",
                              words[0])
        if len(values) == 4 + self.keypoints and self.keypoints:
            values = values[:4]
        if len(values) in (5, *range(7, len(values) + 1, 2)):  # what a detector wrote ends in its confidence
            values.pop()
            self.confident += 1
        if len(values) < 4 or len(values) % 2:
            return self.fault(called, f"has {len(values)} numbers after the class", FORM)
        if any(abs(v) > 2 for v in values):
            return self.fault(called, "its numbers are no fractions of the picture's size (are they pixels?)",
                              "Divide x and width by the picture's width, y and height by its height.",
                              " ".join(words))
        pixels = [v * side for v, side in zip(values, (width, height) * (len(values) // 2))]
        if len(values) == 4:
            x, y, w, h = pixels
            return {"category_id": int(number), "bbox": [x - w / 2, y - h / 2, w, h], "area": abs(w * h)}
        xs, ys = pixels[::2], pixels[1::2]
        area = abs(sum(x * ys[i - 1] - xs[i - 1] * y for i, (x, y) in enumerate(zip(xs, ys)))) / 2
        return {"category_id": int(number), "area": area, "segmentation": [pixels],
                "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]}

    def fault(self, called: str, what: str, fix: str, detail: str = "") -> None:
        self.content.faults.append(Fault(f"{called} ({shortened(detail)})" if detail else called, what, fix))

    def end(self) -> None:
        """Say what was left out. Errors of all pictures together are noted as faults."""
        content = self.content
        if len(self.unreadable) > max(FEW, len(content.images) // 100):
            content.faults += [Fault(name, "is no readable picture", "Replace or remove the file.")
                               for name, _ in self.unreadable]
        elif self.unreadable:
            content.remarks.append(f"{len(self.unreadable)} pictures cannot be read and are left out "
                                   f"({listed([name for name, _ in self.unreadable])})")
        if content.images and not self.labels:
            content.faults.append(Fault(content.called["image"][0], "neither this nor any other picture has a label "
                                        "file", "Put the labels into labels/ beside images/, or beside the pictures."))
        elif without := len(content.images) - self.labels:
            content.remarks.append(f"{without} pictures have no label file: they are taken to show no object")
        if self.confident:
            content.remarks.append(f"{self.confident} lines end in a confidence, which is not used")
