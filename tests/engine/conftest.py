import builtins
import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy_twin import install
from PIL import Image

from detr_jittor.config.options import Config

COLOURS = {1: (230, 20, 20), 2: (20, 230, 20), 3: (20, 20, 230)}


def write_split(root, split: str, count: int, first_id: int) -> None:
    """Pictures of one colour, with one object of the class of that colour in the middle half."""
    (root / f"{split}2017").mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    rng = np.random.default_rng(first_id)
    for number in range(first_id, first_id + count):
        category = int(rng.integers(1, 4))
        height, width = (32, 48) if number % 2 else (40, 32)
        pixels = np.clip(rng.normal(COLOURS[category], 20, (height, width, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{split}2017" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        annotations.append({"id": number, "image_id": number, "category_id": category, "iscrowd": 0,
                            "bbox": [width / 4, height / 4, width / 2, height / 2], "area": width * height / 4})
    categories = [{"id": c, "name": n} for c, n in ((1, "red"), (2, "green"), (3, "blue"))]
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}))


@pytest.fixture
def coco(tmp_path):
    """A dataset in COCO's layout: 11 training pictures (5 batches of 2), 4 for validation."""
    write_split(tmp_path / "coco", "train", 11, 1)
    write_split(tmp_path / "coco", "val", 4, 101)
    return tmp_path / "coco"


@pytest.fixture
def config(coco, tmp_path, monkeypatch) -> Config:
    """Four epochs of five steps with the NumPy twin, warm-up, and a drop of the learning rate inside."""
    install(monkeypatch.setattr)
    return Config().replace(coco_path=str(coco), output_dir=str(tmp_path / "out"), epochs=4, lr_drop=2, lr=0.1,
                            lr_backbone=0.01, warmup_steps=3, batch_size=2, min_size=32, max_size=64, num_workers=0,
                            backbone_weights="none")


@pytest.fixture
def read_only(monkeypatch):
    """`with read_only(folder, code, but):` whatever would change something in it fails, except for some files.

    Played, because root may write everywhere.
    """
    @contextlib.contextmanager
    def install(folder: Path, code: int, but: tuple[str, ...] = ()):
        def refuse(*paths) -> None:
            for path in paths:
                if isinstance(path, (str, Path)) and Path(path).is_relative_to(folder) and Path(path).name not in but:
                    raise OSError(code, os.strerror(code), str(path))

        def changing(own):
            def call(*arguments, **options):
                refuse(*arguments)
                return own(*arguments, **options)
            return call

        def opening(own):
            def call(path, mode="r", *rest, **options):
                if mode & (os.O_WRONLY | os.O_RDWR) if isinstance(mode, int) else set(mode) & set("wxa+"):
                    refuse(path)
                return own(path, mode, *rest, **options)
            return call

        with monkeypatch.context() as m:
            for name in ("mkdir", "unlink", "replace", "link"):
                m.setattr(os, name, changing(getattr(os, name)))
            for module in (builtins, io, os):
                m.setattr(module, "open", opening(module.open))
            yield

    return install


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """What several processes train on, see `launched.write_data`."""
    from launched import write_data  # which imports a framework

    folder = tmp_path_factory.mktemp("processes")
    write_data(folder)
    return folder
