"""The model that weights belong to, as far as their names and shapes tell it; and what their classes are."""

import re

import numpy as np

from detr_jittor.checkpoint.coco_classes import BY_COUNT
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.types import Classes

BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34", (3, 4, 23, 3): "resnet101"}  # resnet50 as 34
HEADS = {"class_embed": 1, "class_score": 0}  # class head → its rows besides the classes: "no object"
PAPER_HEADS = {256: 8}  # width of the transformer → attention heads, which no shape tells


def options_of(model: dict[str, np.ndarray]) -> dict | None:
    """{option: value} of the model options, None if the weights are no whole DETR or do not tell enough.

    Dilation shows in no shape. Nor do the attention heads, except in the mask head; without one, only those of the
    paper's width are known.
    """
    weights = {name.removeprefix("detr."): value for name, value in model.items()}
    box = "query_content.weight" in weights
    head = next((name for name in HEADS if f"{name}.weight" in weights), "class_embed")
    needed = ("query_content.weight" if box else "query_embed.weight", f"{head}.weight",
              "transformer.decoder.layers.0.linear1.weight")
    stages = [count(weights, rf"backbone\.0\.body\.layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    stages = tuple(blocks for blocks in stages if blocks)
    backbone = next((name for depths, name in BLOCKS.items() if depths[:len(stages)] == stages), None)
    if any(name not in weights for name in needed) or len(stages) < 3 or backbone is None:
        return None
    if backbone == "resnet34" and "backbone.0.body.layer1.0.conv3.weight" in weights:
        backbone = "resnet50"
    queries, width = weights[needed[0]].shape
    masks = weights.get("mask_head.lay1.weight")
    heads = PAPER_HEADS.get(width) if masks is None else masks.shape[0] - width
    if not heads:
        return None
    return {
        "backbone": backbone, "backbone_stages": len(stages), "backbone_norm": "frozen", "masks": masks is not None,
        "position_embedding": "learned" if "backbone.1.row_embed.weight" in weights else "sine",
        "enc_layers": count(weights, r"transformer\.encoder\.layers\.(\d+)\."),
        "dec_layers": count(weights, r"transformer\.decoder\.layers\.(\d+)\."),
        "dim_feedforward": len(weights["transformer.decoder.layers.0.linear1.weight"]),
        "hidden_dim": width, "nheads": heads, "num_queries": queries,
        "pre_norm": "transformer.encoder.norm.weight" in weights,
        **(box_options(weights, head) if box else {}),
    }


def box_options(weights: dict[str, np.ndarray], head: str) -> dict:
    """{option: value} of the box decoder's parts."""
    return {
        "decoder": "box", "no_focal": HEADS[head] > 0, "denoising": 5 if "label_embed.weight" in weights else 0,
        "no_conditional": "transformer.decoder.layers.0.multihead_attn.key_place.weight" not in weights,
        "no_sampling": "transformer.maps.0.conv.weight" not in weights,
    }


def count(weights: dict[str, np.ndarray], pattern: str) -> int:
    """How many numbers a list of modules has."""
    return len({found[1] for name in weights if (found := re.match(pattern, name))})


def settings_of(checkpoint: Checkpoint, name: str) -> Config | None:
    """A checkpoint's own settings, or else those that its weights tell; None if they do not tell enough.

    Args:
        name: of its file; the official files with dilation have "dc5" in it.
    """
    if checkpoint.config:
        return checkpoint.config
    options = options_of(checkpoint.state.model)
    if options is None:
        return None
    classes = num_classes(checkpoint)
    return Config().replace(**options, dilation="dc5" in name.lower(), num_classes=classes,
                            dataset_file="coco_panoptic" if options["masks"] and classes == 250 else "coco")


def num_classes(checkpoint: Checkpoint) -> int | None:
    """C of the class head, without "no object"; None without a head."""
    model = checkpoint.state.model
    counts = [len(model[key]) - besides for name, besides in HEADS.items()
              for key in (f"{name}.weight", f"detr.{name}.weight") if key in model]
    return counts[0] if counts else None


def classes_of(checkpoint: Checkpoint) -> Classes | None:
    """What the labels stand for: by the file itself, else COCO's where the head has as many classes."""
    return checkpoint.classes or BY_COUNT.get(num_classes(checkpoint))
