"""From settings to a twin with weights: all that happens before the first step of a run."""

import sys
from pathlib import Path

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.backbone import weights_file, with_backbone
from detr_jittor.checkpoint.folder import newest
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import weights_path
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.engine.transfer import fitted, trained_parts
from detr_jittor.errors import DetrError, visible
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.types import Classes, State

FROM_NOTHING = (
    "The backbone starts from random weights. DETR learns slowly even from ImageNet weights; from scratch, expect many "
    "more epochs on real pictures, and little to see in the first ten thousand steps.")
UNBOUNDED = ("warning: --backbone_norm frozen leaves random weights without normalisation: activations grow from "
             "layer to layer. Train the batch norm (--backbone_norm batch).")


def find_checkpoint(config: Config) -> tuple[str, Checkpoint] | None:
    """(file, content) of what `resume` names; "auto" is the newest in the output folder. Where there is none, of what
    `weights` names: the weights alone, to begin with.

    Errors: DetrError if it cannot be read.
    """
    wanted = config.run.resume
    if not wanted:
        return first_weights(config)
    if wanted != "auto":
        return opened(wanted)
    found = newest(config.run.output_dir)
    if found is None:
        if config.run.eval:
            raise DetrError(f"{config.run.output_dir}: holds no checkpoint.", "Pass --resume FILE.")
        return first_weights(config)
    return str(found[0]), found[1]


def opened(wanted: str) -> tuple[str, Checkpoint]:
    """(file, content) of a file, or what else `weights_path` knows; says how it was understood. Errors: DetrError."""
    file = weights_path(wanted)
    content = store.load(file)
    for remark in content.remarks:
        print(visible(f"{file}: {remark}."))
    return str(file), content


def first_weights(config: Config) -> tuple[str, Checkpoint] | None:
    """(file, content) of what `weights` names, without its place in a run."""
    if not config.run.weights:
        return None
    file, content = opened(config.run.weights)
    weights = State(content.state.averaged, {})
    return file, Checkpoint(weights, config=content.config, classes=content.classes, to_fit=True)


def tell_checkpoint(config: Config, found: tuple[str, Checkpoint] | None) -> None:
    """Say what `resume` "auto" has found."""
    if config.run.resume == "auto" and found and not found[1].to_fit:
        print(f"Going on from {found[0]}.")
    elif config.run.resume == "auto":
        print(f"{config.run.output_dir} holds no checkpoint yet: the run starts from the beginning.")


def check_learnable(data: CocoIndex, remove_difficult: bool = False) -> None:
    """Errors: DetrError, with the cause, for a dataset in which there is no object to train on."""
    objects = data.objects
    learned = ~objects.iscrowd & (objects.boxes[:, 2:] > 0).all(axis=1)
    if remove_difficult:
        learned &= ~objects.difficult
    if not learned.any():
        what, mend = nothing_of(data)
        raise DetrError(f"{data.name}.json: there is nothing to train on: {what}.", mend)


def nothing_of(data: CocoIndex) -> tuple[str, str]:
    """Why none of a dataset's objects is trained on or measured, and what to do."""
    objects = data.objects
    if not len(objects):
        return "it has no objects", "Pass annotations with objects."
    if objects.iscrowd.all():
        return (f"all of its {len(objects)} objects are crowds (iscrowd 1)",
                "If each is one object, pass --crowds objects.")
    return f"none of its {len(objects)} objects is left that is no crowd, has an area and is wanted", \
        "Look at iscrowd, at the boxes, and at --remove_difficult."


def tell_unmeasured(data: CocoIndex) -> None:
    """Warn of a dataset that AP cannot be measured on."""
    if data.objects.iscrowd.all():
        what, mend = nothing_of(data)
        print(f"warning: {data.name}.json: there is nothing to measure, so AP stays \"-\": {what}. {mend}",
              file=sys.stderr)


def tell_crowded(data: CocoIndex, queries: int) -> None:
    """Warn of pictures with more objects than queries."""
    counts = data.learned
    if crowded := int((counts > queries).sum()):
        print(f"warning: {data.name}: {crowded} pictures have more than {queries} objects, of which a step learns only "
              f"{queries}; with --num_queries {counts.max()} it learns all.", file=sys.stderr)


def resolve(config: Config, data: CocoIndex, found: tuple[str, Checkpoint] | None) -> Config:
    """The settings without "auto" and None: num_classes from the dataset, backbone_norm from the weights.

    Args:
        data: with the labels of `found`, see classes.py.

    Errors: DetrError if the dataset has labels beyond num_classes.
    """
    norm = config.model.backbone_norm
    if config.run.frozen_weights or config.optim.freeze != "none":
        norm = "frozen"  # whatever it was trained with: its statistics stay
    if norm == "auto":
        norm = "batch" if config.run.backbone_weights == "none" and not found else "frozen"
    num_classes = config.model.num_classes or data.classes.num_classes
    if num_classes < data.classes.num_classes:
        raise DetrError(f"--num_classes {num_classes}: {data.name} has labels up to {data.classes.num_classes - 1}.",
                        f"Leave it out, or give at least {data.classes.num_classes}.")
    return config.replace(backbone_norm=norm, num_classes=num_classes)


def build(config: Config, found: tuple[str, Checkpoint] | None, wants_backbone: bool,
          classes: Classes | None = None, processes: Processes = ALONE) -> Twin:
    """The twin with its weights: a checkpoint's, or random ones with ImageNet's in the backbone.

    Args:
        config: resolved.
        classes: the dataset's, where a checkpoint may have others.
        wants_backbone: whether ImageNet weights are needed where there is no checkpoint.

    Errors: DetrError if the weights are missing or do not fit.
    """
    frozen = config.run.frozen_weights
    use_backbone = wants_backbone and found is None and not frozen and config.run.backbone_weights != "none"
    file = weights_file(config.model.backbone, config.run.backbone_weights) if use_backbone else None
    twin = load_twin(config.run.framework)(config, config.model.num_classes, processes)
    print(f"{twin.name} on {twin.device}, kernels: {twin.kernels}, {twin.n_parameters:,} trainable parameters"
          + (f", {processes.size} processes" if processes.size > 1 else ""))
    if config.run.device.startswith("cuda") and not str(twin.device).startswith("cuda"):
        print(f"warning: --device {config.run.device}: there is no GPU that {twin.name} can use here; it goes on "
              f"with the {twin.device}.", file=sys.stderr)
    if found and found[1].to_fit and classes:
        found = found[0], begin_with(twin, *found, classes)
    if found:
        load_checkpoint(twin, *found, with_optimizer=not config.run.eval)
    elif frozen:
        load_frozen(twin, frozen)
    elif file:
        twin.load(with_backbone(twin.state(), file, config.model.backbone_stages))
    else:
        print(FROM_NOTHING)
        if config.model.backbone_norm == "frozen":
            print(UNBOUNDED, file=sys.stderr)
    return twin


def begin_with(twin: Twin, file: str, checkpoint: Checkpoint, classes: Classes) -> Checkpoint:
    """A checkpoint's weights, fitted to the twin; says what was kept, replaced and frozen."""
    own = twin.state().model
    state, remarks = fitted(file, checkpoint, own, classes)
    print("\n".join([*remarks, trained_parts({n: v.shape for n, v in own.items()}, set(twin.trained))]))
    return Checkpoint(state)


def load_checkpoint(twin: Twin, file: str, checkpoint: Checkpoint, with_optimizer: bool) -> None:
    """Errors: DetrError, naming the file, if its weights do not fit."""
    state = checkpoint.state
    if with_optimizer and checkpoint.note:
        print(f"warning: {file}: {checkpoint.note}.", file=sys.stderr)
    if not with_optimizer:
        state = State(state.averaged, {})
    try:
        twin.load(state)
    except DetrError as error:
        raise DetrError(f"{file}: {error.what}", error.fix) from None


def load_frozen(twin: Twin, file: str | Path) -> None:
    """Put a detector's weights under the mask head; the head keeps its own."""
    given = store.load(weights_path(str(file))).state.averaged
    detector = {f"detr.{name.removeprefix('detr.')}": value for name, value in given.items()}
    own = twin.state().model
    head = {name: value for name, value in own.items() if not name.startswith("detr.")}
    try:
        twin.load(State({**detector, **head}, {}))
    except DetrError as error:
        raise DetrError(f"{file}: {error.what}", error.fix) from None
