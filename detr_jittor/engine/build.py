"""A twin with the weights that its run starts from."""

import sys

from detr_jittor.checkpoint.backbone import weights_file, with_backbone
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.engine.start import FROZEN, NOTHING, WEIGHTS, Start
from detr_jittor.engine.transfer import fitted, trained_parts
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.types import Classes, State

FROM_SCRATCH = (
    "The backbone starts from random weights. DETR learns slowly even from ImageNet weights; from scratch, expect many "
    "more epochs on real pictures, and little to see in the first ten thousand steps.")
UNBOUNDED = ("warning: --backbone_norm frozen leaves random weights without normalisation: activations grow from "
             "layer to layer. Train the batch norm (--backbone_norm batch).")


def build(config: Config, start: Start, classes: Classes | None = None, processes: Processes = ALONE) -> Twin:
    """The twin with its weights: those of the start, or random ones with ImageNet's in the backbone.

    Args:
        config: resolved.
        classes: the dataset's, to which weights are fitted; None: they are taken as they are.

    Errors: DetrError if the weights are missing or do not fit.
    """
    wants_backbone = start.mode == NOTHING and config.run.backbone_weights != "none"
    backbone = weights_file(config.model.backbone, config.run.backbone_weights) if wants_backbone else None
    twin = load_twin(config.run.framework)(config, config.model.num_classes, processes)
    tell_twin(twin, config, processes)
    if start.mode == WEIGHTS and classes:
        load_checkpoint(twin, start.file, begin_with(twin, start, classes))
    elif start.mode == FROZEN:
        load_frozen(twin, start)
    elif start.checkpoint:
        load_checkpoint(twin, start.file, start.checkpoint, weights_alone=config.run.eval)
    elif backbone:
        twin.load(with_backbone(twin.state(), backbone, config.model.backbone_stages))
    else:
        print(FROM_SCRATCH if config.model.decoder == "detr" else "The backbone starts from random weights.")
        if config.model.backbone_norm == "frozen":
            print(UNBOUNDED, file=sys.stderr)
    return twin


def tell_twin(twin: Twin, config: Config, processes: Processes) -> None:
    print(f"{twin.name} on {twin.device}, kernels: {twin.kernels}, {twin.n_parameters:,} trainable parameters"
          + (f", {processes.size} processes" if processes.size > 1 else ""))
    if config.run.device.startswith("cuda") and not str(twin.device).startswith("cuda"):
        print(f"warning: --device {config.run.device}: there is no GPU that {twin.name} can use here; it goes on "
              f"with the {twin.device}.", file=sys.stderr)


def begin_with(twin: Twin, start: Start, classes: Classes) -> Checkpoint:
    """A checkpoint's weights, fitted to the twin; says what was kept, replaced and frozen."""
    own = twin.state().model
    state, remarks = fitted(start.file, start.checkpoint, own, classes)
    print("\n".join([*remarks, trained_parts({n: v.shape for n, v in own.items()}, set(twin.trained))]))
    return Checkpoint(state)


def load_checkpoint(twin: Twin, file: str, checkpoint: Checkpoint, weights_alone: bool = False) -> None:
    """Errors: DetrError, naming the file, if its weights do not fit."""
    if checkpoint.note and not weights_alone:
        print(f"warning: {file}: {checkpoint.note}.", file=sys.stderr)
    load_from(file, twin, State(checkpoint.state.averaged, {}) if weights_alone else checkpoint.state)


def load_frozen(twin: Twin, start: Start) -> None:
    """Put a detector's weights under the mask head; the head keeps its own."""
    given = start.checkpoint.state.averaged
    detector = {f"detr.{name.removeprefix('detr.')}": value for name, value in given.items()}
    head = {name: value for name, value in twin.state().model.items() if not name.startswith("detr.")}
    load_from(start.file, twin, State({**detector, **head}, {}))


def load_from(file: str, twin: Twin, state: State) -> None:
    try:
        twin.load(state)
    except DetrError as error:
        raise DetrError(f"{file}: {error.what}", error.fix) from None
