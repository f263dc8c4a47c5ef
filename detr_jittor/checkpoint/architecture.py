"""The model that weights belong to, as far as their names and shapes tell it; and what their classes are."""

import re
from pathlib import Path

import numpy as np

from detr_jittor.checkpoint.coco_classes import BY_COUNT
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import is_official
from detr_jittor.config.options import Config
from detr_jittor.types import Classes

BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34", (3, 4, 23, 3): "resnet101"}  # resnet50 as 34
HEADS = {"class_embed": 1, "class_score": 0}  # class head → its rows besides the classes: "no object"
SHAPED = ("backbone", "backbone_stages", "masks", "position_embedding", "enc_layers", "dec_layers", "dim_feedforward",
          "hidden_dim", "num_queries", "pre_norm")  # what a shape or a name tells for certain
PAPER_HEADS = {256: 8}  # width of the transformer → attention heads, which no shape tells


def options_of(model: dict[str, np.ndarray], heads: int | None = None) -> dict | None:
    """{option: value} of the model options, None if the weights are no whole DETR or do not tell enough.

    Dilation shows in no shape. Nor do the attention heads, except in the mask head; without one, only those of the
    paper's width are known. A class head need not be there: files to fine-tune often lack it.

    Args:
        heads: the attention heads, where something else tells them.
    """
    weights = {name.removeprefix("detr."): value for name, value in model.items()}
    box = "query_content.weight" in weights
    needed = ("query_content.weight" if box else "query_embed.weight",
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
    heads = (heads or PAPER_HEADS.get(width)) if masks is None else masks.shape[0] - width
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
        **(box_options(weights) if box else {}),
    }


def box_options(weights: dict[str, np.ndarray]) -> dict:
    """{option: value} of the box decoder's parts."""
    others = len(weights.get("group_content.weight", ()))
    return {
        "decoder": "box", "query_groups": 1 + others // len(weights["query_content.weight"]),
        "denoising": 5 if "label_embed.weight" in weights else 0,
        "no_focal": "class_embed.weight" in weights,
        "query_boxes": "proposals" if "proposals.class_score.weight" in weights else "learned",
        "layer_heads": "own" if any(name.startswith("box_heads.") for name in weights) else "shared",
        "no_conditional": "transformer.decoder.layers.0.multihead_attn.key_place.weight" not in weights,
        "no_sampling": "transformer.maps.0.conv.weight" not in weights,
    }


def difference(config: Config, model: dict[str, np.ndarray]) -> str:
    """In what settings differ from what the shapes of weights tell, in words; empty if in nothing that they tell."""
    said, told = config.flat(), options_of(model, heads=1) or {}
    return next((f"{name} is {said[name]}, the weights have {value}" for name, value in told.items()
                 if name in SHAPED and said[name] != value), "")


def count(weights: dict[str, np.ndarray], pattern: str) -> int:
    """How many numbers a list of modules has."""
    return len({found[1] for name in weights if (found := re.match(pattern, name))})


def settings_of(checkpoint: Checkpoint, name: str) -> Config | None:
    """A checkpoint's own settings, or else those that its weights tell; None if they do not tell enough.

    Args:
        name: of its file; the official files with dilation have "dc5" in it. The folders that lead to it say nothing.
    """
    if checkpoint.config:
        return checkpoint.config
    options = options_of(checkpoint.state.model)
    if options is None:
        return None
    classes = num_classes(checkpoint)
    return Config().replace(**options, dilation="dc5" in Path(name).name.lower(), num_classes=classes,
                            dataset_file="coco_panoptic" if options["masks"] and classes == 250 else "coco")


def told(checkpoint: Checkpoint, file: str) -> list[str]:
    """What `settings_of` and `classes_of` have guessed of a file that does not say it, in sentences."""
    sentences = []
    if checkpoint.config is None and (config := settings_of(checkpoint, file)):
        dilation = " and dilation, after the \"dc5\" in its name" if config.model.dilation else ""
        sentences.append(f"{file}: a {config.model.backbone} model with {config.model.nheads} attention heads"
                         f"{dilation}, as far as its shapes and name tell.")
    if checkpoint.classes is None and guessed_classes(checkpoint) and not is_official(file):
        sentences.append(f"{file}: names no classes; the names are COCO's, guessed from {num_classes(checkpoint)} "
                         "outputs.")
    return sentences


def num_classes(checkpoint: Checkpoint) -> int | None:
    """C of the class head, without "no object"; None without a head."""
    model = checkpoint.state.model
    counts = [len(model[key]) - besides for name, besides in HEADS.items()
              for key in (f"{name}.weight", f"detr.{name}.weight") if key in model]
    return counts[0] if counts else None


def classes_of(checkpoint: Checkpoint) -> Classes | None:
    """What the labels stand for: by the file itself, else COCO's where the head has as many classes."""
    return checkpoint.classes or guessed_classes(checkpoint)


def guessed_classes(checkpoint: Checkpoint) -> Classes | None:
    """COCO's classes, where the head has as many as the reference code gives them; None for another number."""
    return BY_COUNT.get(num_classes(checkpoint))
