"""What a run starts from: one decision, made once, from the settings. Each file is read once."""

from dataclasses import dataclass

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.folder import newest
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import weights_path
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.errors import DetrError, visible
from detr_jittor.types import State

NOTHING = "nothing"  # random weights, with ImageNet's in the backbone where there are some
RESUME = "resume"  # a checkpoint, with its place in a run
WEIGHTS = "weights"  # the weights of a checkpoint alone, fitted to the model and the dataset
FROZEN = "frozen"  # a detector that stays as it is, below a mask head


@dataclass(frozen=True)
class Start:
    """Attributes: mode: one of the above; file, checkpoint: what was read, but of NOTHING."""

    mode: str = NOTHING
    file: str = ""
    checkpoint: Checkpoint | None = None


def find_start(config: Config) -> Start:
    """What `resume` names comes first ("auto": the newest in the output folder, if there is one), then `weights`, then
    `frozen_weights`.

    Errors: DetrError if a file cannot be read, or if there is nothing to evaluate.
    """
    run = config.run
    if run.resume == "auto":
        if found := newest(run.output_dir):
            return Start(RESUME, str(found[0]), found[1])
        if run.eval:
            raise DetrError(f"{run.output_dir}: holds no checkpoint.", "Pass --resume FILE.")
    elif run.resume:
        return Start(RESUME, *opened(run.resume))
    if run.weights:
        file, content = opened(run.weights)
        alone = State(content.state.averaged, {})
        return Start(WEIGHTS, file, Checkpoint(alone, config=content.config, classes=content.classes))
    if run.frozen_weights and config.model.masks:
        return Start(FROZEN, *opened(run.frozen_weights))
    return Start()


def opened(wanted: str) -> tuple[str, Checkpoint]:
    """(file, content) of a file, or what else `weights_path` knows; says how it was understood. Errors: DetrError."""
    file = weights_path(wanted)
    content = store.load(file)
    for remark in content.remarks:
        print(visible(f"{file}: {remark}."))
    return str(file), content


def tell_start(config: Config, start: Start) -> None:
    """Say what `resume` "auto" has found."""
    if config.run.resume == "auto" and start.mode == RESUME:
        print(f"Going on from {start.file}.")
    elif config.run.resume == "auto":
        print(f"{config.run.output_dir} holds no checkpoint yet: the run starts from the beginning.")


def resolve(config: Config, data: CocoIndex, start: Start) -> Config:
    """The settings without "auto" and None: num_classes from the dataset, backbone_norm from the weights.

    Args:
        data: with the labels of the start, see classes.py.

    Errors: DetrError if the dataset has labels beyond num_classes.
    """
    norm = config.model.backbone_norm
    if config.run.frozen_weights or config.optim.freeze != "none":
        norm = "frozen"  # whatever it was trained with: its statistics stay
    if norm == "auto":
        norm = "batch" if config.run.backbone_weights == "none" and start.mode == NOTHING else "frozen"
    num_classes = config.model.num_classes or data.classes.num_classes
    if num_classes < data.classes.num_classes:
        raise DetrError(f"--num_classes {num_classes}: {data.name} has labels up to {data.classes.num_classes - 1}.",
                        f"Leave it out, or give at least {data.classes.num_classes}.")
    return config.replace(backbone_norm=norm, num_classes=num_classes)
