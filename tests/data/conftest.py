"""Small datasets, made by code."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZES = [(60, 80), (80, 60), (64, 64), (48, 96), (97, 71), (70, 70), (50, 75)]  # (height, width)


class Dataset:
    """A dataset in COCO's layout whose annotation files a test can change before it is read."""

    def __init__(self, root: Path):
        self.root = root
        (root / "annotations").mkdir(parents=True)
        for split in ("train", "val"):
            (root / f"{split}2017").mkdir()
        random = np.random.default_rng(0)
        images, annotations = [], []
        for number, (height, width) in enumerate(SIZES):
            name = f"{number:03}.jpg"
            # coarse noise, so that JPEG keeps something of it
            noise = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height))
            for split in ("train", "val"):
                noise.save(root / f"{split}2017" / name)
            images.append({"id": 10 + number, "file_name": name, "height": height, "width": width})
            for _ in range(number % 4):
                x, y = random.uniform(0, width / 2), random.uniform(0, height / 2)
                w, h = random.uniform(5, width - x), random.uniform(5, height - y)
                annotations.append({
                    "id": 100 + len(annotations), "image_id": 10 + number, "category_id": [3, 7][len(annotations) % 2],
                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})
        self.content = {"images": images, "annotations": annotations,
                        "categories": [{"id": 3, "name": "apple"}, {"id": 7, "name": "pear"}]}
        self.write("train", self.content)
        self.write("val", self.content)

    def copy(self) -> dict:
        return copy.deepcopy(self.content)

    def file(self, split: str = "train") -> Path:
        return self.root / "annotations" / f"instances_{split}2017.json"

    def folder(self, split: str = "train") -> Path:
        return self.root / f"{split}2017"

    def write(self, split: str, content) -> None:
        self.file(split).write_text(json.dumps(content))


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return Dataset(tmp_path / "set")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory) -> Dataset:
    """One dataset for all examples of a property test."""
    return Dataset(tmp_path_factory.mktemp("data") / "set")
