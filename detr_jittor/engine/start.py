"""From settings to a twin with weights: all that happens before the first step of a run."""

import sys
from pathlib import Path

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.architecture import num_classes as classes_in
from detr_jittor.checkpoint.backbone import weights_file, with_backbone
from detr_jittor.checkpoint.folder import newest
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import weights_path
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.engine.transfer import fitted, trained_parts
from detr_jittor.errors import DetrError
from detr_jittor.twin.contract import Twin, load_twin
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.types import Classes, State

FROM_NOTHING = (
    "The backbone starts from random weights. DETR learns slowly even from ImageNet weights; from nothing, expect many "
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
        return wanted, store.load(wanted)
    found = newest(config.run.output_dir)
    if found is None:
        if config.run.eval:
            raise DetrError(f"{config.run.output_dir}: holds no checkpoint.", "Pass --resume FILE.")
        return first_weights(config)
    return str(found[0]), found[1]


def first_weights(config: Config) -> tuple[str, Checkpoint] | None:
    """(file, content) of what `weights` names, without its place in a run."""
    if not config.run.weights:
        return None
    file = weights_path(config.run.weights)
    content = store.load(file)
    weights = State(content.state.averaged, {})
    return str(file), Checkpoint(weights, config=content.config, classes=content.classes, to_fit=True)


def tell_checkpoint(config: Config, found: tuple[str, Checkpoint] | None) -> None:
    """Say what `resume` "auto" has found."""
    if config.run.resume == "auto" and found and not found[1].to_fit:
        print(f"Going on from {found[0]}.")
    elif config.run.resume == "auto":
        print(f"{config.run.output_dir} holds no checkpoint yet: the run starts from the beginning.")


def tell_crowded(data: CocoIndex, queries: int) -> None:
    """Warn of pictures with more objects than queries."""
    counts = data.learned
    if crowded := int((counts > queries).sum()):
        print(f"warning: {data.name}: {crowded} pictures have more than {queries} objects, of which a step learns only "
              f"{queries}; with --num_queries {counts.max()} it learns all.", file=sys.stderr)


def resolve(config: Config, data: CocoIndex, found: tuple[str, Checkpoint] | None) -> Config:
    """The settings without "auto" and None: num_classes from checkpoint or dataset, backbone_norm from the weights.

    Errors: DetrError if checkpoint and dataset name other classes.
    """
    norm, frozen = config.model.backbone_norm, config.run.frozen_weights
    if frozen:
        norm = "frozen"  # whatever it was trained with: its statistics stay
        check_classes(frozen, store.load(frozen), data, config.model.num_classes)
    if config.optim.freeze != "none":
        norm = "frozen"
    if norm == "auto":
        norm = "batch" if config.run.backbone_weights == "none" and not found else "frozen"
    if found and (config.run.eval or not found[1].to_fit):
        check_classes(*found, data, config.model.num_classes)
    num_classes = config.model.num_classes or data.classes.num_classes
    if num_classes < data.classes.num_classes:
        raise DetrError(f"--num_classes {num_classes}: {data.name} has labels up to {data.classes.num_classes - 1}.",
                        f"Leave it out, or give at least {data.classes.num_classes}.")
    return config.replace(backbone_norm=norm, num_classes=num_classes)


def check_classes(file: str, checkpoint: Checkpoint, data: CocoIndex, num_classes: int | None) -> None:
    """Errors: DetrError if a checkpoint's labels are not those of a dataset."""
    if checkpoint.classes:
        ours, theirs = checkpoint.classes.label_of(), data.classes.label_of()
        strange = [category for category, label in theirs.items() if ours.get(category) != label]
        if strange:
            raise DetrError(f"{file}: trained on other classes than {data.name}, whose {listed(strange, data.classes)} "
                            "it does not have.", "Give it the dataset that it was trained on.")
    count, wanted = classes_in(checkpoint), num_classes or (checkpoint.classes or data.classes).num_classes
    if count not in (None, wanted):
        raise DetrError(f"{file}: has {count} classes, but {wanted} are wanted for {data.name}.",
                        f"Give it its own dataset, or pass --num_classes {count} if the labels agree.")


def listed(categories: list[int], classes: Classes) -> str:
    names = dict(zip(classes.category_ids, classes.names))
    shown = ", ".join(f"{c} ({names[c]})" for c in categories[:5])
    return f"categories {shown}{', …' if len(categories) > 5 else ''}" if len(categories) > 1 else f"category {shown}"


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
        raise DetrError(f"{file}: {error.what}", error.mend) from None


def load_frozen(twin: Twin, file: str | Path) -> None:
    """Put a detector's weights under the mask head; the head keeps its own."""
    detector = {f"detr.{name.removeprefix('detr.')}": value for name, value in store.load(file).state.averaged.items()}
    own = twin.state().model
    head = {name: value for name, value in own.items() if not name.startswith("detr.")}
    try:
        twin.load(State({**detector, **head}, {}))
    except DetrError as error:
        raise DetrError(f"{file}: {error.what}", error.mend) from None
