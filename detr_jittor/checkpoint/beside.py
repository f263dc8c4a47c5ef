"""The config.json beside a file of weights that says nothing of its own model: ours, or the transformers library's."""

import json
import re
from pathlib import Path

from detr_jittor.checkpoint.architecture import difference, num_classes, options_of
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.errors import DetrError, is_unicode
from detr_jittor.types import Classes

NAME = "config.json"
NO_NAME = re.compile(r"LABEL_\d+|N/A", re.IGNORECASE)  # what transformers writes where nobody has named a class
# Their word for what the shapes tell too: by it a file of another model is known.
THEIRS = {"d_model": "hidden_dim", "encoder_layers": "enc_layers", "decoder_layers": "dec_layers",
          "num_queries": "num_queries", "encoder_ffn_dim": "dim_feedforward"}


def completed(path: Path, checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint with the settings and class names that it lacks itself, where a config.json beside it has them.

    What was taken, or why nothing was, goes into its remarks.
    """
    file = path.parent / NAME
    if (checkpoint.config and checkpoint.classes) or num_classes(checkpoint) is None or not file.is_file():
        return checkpoint
    try:
        content = json.loads(file.read_bytes())
        ours = None if is_theirs(content) else Config.from_json(json.dumps(content), str(file))
    except (OSError, ValueError, RecursionError, DetrError):
        checkpoint.remarks.append(f"the {NAME} beside it is of no kind that is known, and is not used")
        return checkpoint
    if other := contradiction(content, ours, checkpoint):
        checkpoint.remarks.append(f"the {NAME} beside it is of another model ({other}), and is not used")
        return checkpoint
    taken = []
    if checkpoint.config is None and (config := ours or from_theirs(content, checkpoint)):
        checkpoint.config = config
        taken.append("its settings")
    if checkpoint.classes is None and ours is None and (classes := named(content, checkpoint)):
        checkpoint.classes = classes
        taken.append(f"the names of its {len(classes.names)} classes")
    if taken:
        checkpoint.remarks.append(f"{' and '.join(taken)} are those of the {NAME} beside it")
    return checkpoint


def is_theirs(content) -> bool:
    return isinstance(content, dict) and any(key in content for key in ("id2label", "model_type", "d_model"))


def contradiction(content: dict, ours: Config | None, checkpoint: Checkpoint) -> str:
    """In what a config.json differs from the shapes of the weights, in words; empty if in nothing."""
    if ours:
        return difference(ours, checkpoint.state.model)
    told = options_of(checkpoint.state.model, heads=1) or {}
    return next((f"{name} is {content[key]!r}"[:60] + f", the weights have {told[name]}" for key, name in THEIRS.items()
                 if key in content and name in told and content[key] != told[name]), "")


def from_theirs(content: dict, checkpoint: Checkpoint) -> Config | None:
    """The settings that the shapes and the transformers library's config tell together; None if that is too little."""
    heads, dilation = content.get("encoder_attention_heads"), content.get("dilation", False)
    if type(heads) is not int or heads < 1 or type(dilation) is not bool:
        return None
    options = options_of(checkpoint.state.model, heads)
    if options is None:
        return None
    count = num_classes(checkpoint)
    panoptic = options["masks"] and count == 250
    return Config().replace(**options, dilation=dilation, num_classes=count,
                            dataset_file="coco_panoptic" if panoptic else "coco")


def named(content: dict, checkpoint: Checkpoint) -> Classes | None:
    """The classes of `id2label`; None if it has none, or labels that the weights have not."""
    count, names = num_classes(checkpoint), content.get("id2label")
    if not isinstance(names, dict):
        return None
    found = {}
    for label, name in names.items():
        if not re.fullmatch(r"\d{1,9}", label) or int(label) >= count or type(name) is not str or not is_unicode(name):
            return None
        if name and not NO_NAME.fullmatch(name):
            found[int(label)] = name
    if not found:
        return None
    labels = tuple(sorted(found))
    return Classes(labels, tuple(found[label] for label in labels), labels, count)
