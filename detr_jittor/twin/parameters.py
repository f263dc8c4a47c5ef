"""The weights as both twins see them: which are trained, in which group, and how they start.

A start value is a function of (seed, name, shape), in NumPy, so that both twins begin a run with the same weights.
Names are the reference code's state-dict keys.
"""

import re
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from detr_jittor.config.options import Config
from detr_jittor.twin import seeding

NORM_BUFFERS = ("running_mean", "running_var")
TRANSFORMER = ("transformer.", "input_proj.", "backbone.1.")  # with what leads into it: projection, learned positions


def in_backbone(name: str) -> bool:
    """Whether a weight belongs to the optimizer's backbone group (lr_backbone), learned positions included."""
    return "backbone" in name


def is_norm(name: str) -> bool:
    """Whether a weight of the backbone belongs to a batch norm."""
    layer = name.rsplit(".", 2)[-2]
    return in_backbone(name) and (layer.startswith("bn") or ".downsample.1." in name)


def is_trained(name: str, config: Config) -> bool:
    """Whether the optimizer sees this weight.

    Never running statistics. With frozen batch norm, as in the reference: no batch norm tensor, nor conv1 and layer1,
    whose ImageNet features need no change. A backbone that starts from scratch is trained whole.
    """
    if config.run.frozen_weights and name.startswith("detr."):
        return False  # only the mask head is trained
    if name.endswith(NORM_BUFFERS):
        return False
    if config.optim.freeze == "transformer" and name.removeprefix("detr.").startswith(TRANSFORMER):
        return False
    if "backbone.0.body." not in name:
        return True
    if config.optim.lr_backbone <= 0 or config.optim.freeze != "none":
        return False
    if config.model.backbone_norm == "batch":
        return True
    return not is_norm(name) and any(f".{stage}." in name for stage in ("layer2", "layer3", "layer4"))


def is_averaged(name: str, config: Config) -> bool:
    """Whether --ema keeps a moving average of this weight: whatever training changes, running statistics included."""
    return is_running(name, config) or is_trained(name, config)


def is_running(name: str, config: Config) -> bool:
    """Whether this is a running statistic that training changes, although the optimizer does not see it."""
    return name.endswith(NORM_BUFFERS) and config.model.backbone_norm == "batch"


def box_logits(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """[Q, 4] boxes all over the picture, a fifth as high and wide, as logits"""
    boxes = np.concatenate([rng.uniform(0.01, 0.99, (shape[0], 2)), np.full((shape[0], 2), 0.2)], axis=1)
    return np.log(boxes / (1 - boxes))


# What of the box decoder starts otherwise than DETR's layers
BOX_DECODER = {
    "query_box.weight": box_logits,
    "query_content.weight": lambda rng, shape: rng.normal(0, 0.02, shape),
    "group_box.weight": box_logits,
    "group_content.weight": lambda rng, shape: rng.normal(0, 0.02, shape),
    "label_embed.weight": lambda rng, shape: rng.normal(0, 0.02, shape),
    "class_score.bias": lambda rng, shape: np.full(shape, -np.log(99)),  # one in a hundred is an object (focal loss)
    "box_delta.layers.2.weight": lambda rng, shape: np.zeros(shape),  # no box moves at first
    "box_delta.layers.2.bias": lambda rng, shape: np.zeros(shape),
}


def as_last_layers(name: str, names: Container[str]) -> str:
    """A weight of a decoder layer's own head, or of that of the proposals, by the name of the last layer's, with which
    it starts alike.

    Args: names: of all weights.
    """
    classes = "class_score" if "class_score.weight" in names else "class_embed"
    name = re.sub(r"^class_heads\.\d+|^proposals\.class_score", classes, name)
    return re.sub(r"^box_heads\.\d+|^proposals\.box_delta", "box_delta", name)


def initial_value(name: str, shape: tuple[int, ...], shapes: dict[str, tuple[int, ...]], seed: int) -> np.ndarray:
    """The start value of one weight, float32, as the reference code initialises it.

    Args:
        shapes: the shapes of all weights; a bias is drawn by the fan-in of its weight.
    """
    alike = as_last_layers(name, shapes)
    rng = seeding.generator(seed, seeding.place_id(alike))
    bias = name.endswith("bias")
    if is_norm(name) or "norm" in name or ".gn" in name:
        return np.full(shape, 0.0 if bias or name.endswith("running_mean") else 1.0, np.float32)
    if "backbone.0.body." in name:  # kaiming normal over the fan-out (torchvision)
        return rng.normal(0, np.sqrt(2 / (shape[0] * np.prod(shape[2:]))), shape).astype(np.float32)
    if "row_embed" in name or "col_embed" in name:
        return rng.random(shape, np.float32)
    if "query_embed" in name:
        return rng.standard_normal(shape, np.float32)
    if alike in BOX_DECODER:
        return BOX_DECODER[alike](rng, shape).astype(np.float32)
    if "mask_head" in name:  # kaiming uniform, a = 1
        bound = 0.0 if bias else np.sqrt(3 / np.prod(shape[1:]))
    elif "in_proj_bias" in name or "out_proj.bias" in name or (bias and "bbox_attention" in name):
        bound = 0.0
    elif not bias and ("transformer" in name or "bbox_attention" in name):
        # xavier uniform; the fused in_proj [3D, D] has another bound than three matrices [D, D]
        bound = np.sqrt(6 / (shape[0] + shape[1]))
    else:  # PyTorch's default for linear layers and convolutions
        weight = shapes[name[: -len("bias")] + "weight"] if bias else shape
        bound = 1 / np.sqrt(np.prod(weight[1:]))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def initial_values(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """{name: start value} of a whole model."""
    with ThreadPoolExecutor() as pool:  # NumPy draws without holding the interpreter
        values = pool.map(lambda item: initial_value(*item, shapes, seed), shapes.items())
        return dict(zip(shapes, values))
