"""A detector whose answer is known: every query says a dog with p = .91, in the middle of the picture."""

import numpy as np
import pytest
from PIL import Image

from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.store import save
from detr_jittor.config.options import Config
from detr_jittor.frameworks.load import load_twin
from detr_jittor.types import Classes, State

CLASSES = Classes.of_categories([{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}])
CONFIG = Config().replace(backbone="resnet18", backbone_stages=3, backbone_norm="frozen", hidden_dim=16, nheads=2,
                          dim_feedforward=16, enc_layers=1, dec_layers=1, num_queries=4, min_size=48, max_size=64,
                          device="cpu")


WITH_MASKS = CONFIG.replace(backbone_stages=4, masks=True, hidden_dim=128, nheads=8)


def write_weights(path, label: int = 7, config=CONFIG) -> None:
    weights = load_twin("pytorch")(config, CLASSES.num_classes).state().model
    detr = "detr." if config.model.masks else ""
    weights[f"{detr}class_embed.weight"][:] = 0
    weights[f"{detr}class_embed.bias"][:] = 0
    weights[f"{detr}class_embed.bias"][[label, 8]] = 5, 2  # the last one is "no object"
    weights[f"{detr}bbox_embed.layers.2.weight"][:] = 0
    weights[f"{detr}bbox_embed.layers.2.bias"][:] = [0, 0, 0, -np.log(3)]  # sigmoid: .5, .5, .5, .25
    save(path, Checkpoint(State(weights, {}), config=config, classes=CLASSES))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "dog.pth"
    write_weights(path)
    return path


@pytest.fixture(scope="session")
def cat(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "cat.pth"
    write_weights(path, label=3)
    return path


@pytest.fixture(scope="session")
def with_masks(tmp_path_factory):
    """{"masks" or "panoptic": a detector of the same dogs, whose mask head has random weights}"""
    folder = tmp_path_factory.mktemp("masks")
    for name, config in (("masks", WITH_MASKS), ("panoptic", WITH_MASKS.replace(dataset_file="coco_panoptic"))):
        write_weights(folder / f"{name}.pth", config=config)
    return {name: folder / f"{name}.pth" for name in ("masks", "panoptic")}


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """100 × 80 pixels; the dog is at 25 … 75, 30 … 50."""
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.effect_noise((100, 80), 60).convert("RGB").save(path)
    return path
