"""Every setting, once: name, default, help and group. The command line is made from this file.

The fields are the options of the reference command line under their own names, grouped by the room that reads them,
so that no room receives more than it needs; those that the reference lacks are marked "(added)" in their help.
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from detr_jittor.config.format import FORMAT, unknown
from detr_jittor.errors import DetrError, is_unicode

FRAMEWORKS = ("jittor", "pytorch")
TRACKERS = ("tensorboard", "swanlab", "wandb", "mlflow")
# Blocks in each stage of a ResNet (arXiv 1512.03385, table 1)
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
LARGEST = 2**63 - 1  # whole number, as checkpoints and seeds take it


def option(default, help: str, choices: tuple = ()):
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class ModelConfig:
    """the model"""

    backbone: str = option("resnet50", "ResNet of the backbone", tuple(DEPTHS))
    dilation: bool = option(False, "dilation instead of stride in the backbone's last stage (DC5)")
    backbone_norm: str = option("auto", "batch norm of the backbone: frozen, or trained for a backbone that starts "
                                "from scratch; auto: frozen with weights, batch without (added)",
                                ("auto", "frozen", "batch"))
    backbone_stages: int = option(4, "stages of the ResNet that are used; 3 gives features of stride 16 (added)",
                                  (3, 4))
    position_embedding: str = option("sine", "position encoding of the picture", ("sine", "learned"))
    enc_layers: int = option(6, "encoder layers")
    dec_layers: int = option(6, "decoder layers")
    dim_feedforward: int = option(2048, "width of the feed-forward layers")
    hidden_dim: int = option(256, "width of the transformer")
    dropout: float = option(0.1, "dropout in the transformer")
    nheads: int = option(8, "attention heads")
    num_queries: int = option(100, "object queries: the most objects a picture can have")
    pre_norm: bool = option(False, "layer norm before each sub-layer, not after it")
    masks: bool = option(False, "train and use the mask head")
    decoder: str = option("detr", "decoder: detr as in the paper, or box for few pictures, whose queries are boxes and "
                          "look at samples from them (added)", ("detr", "box"))
    no_conditional: bool = option(False, "box decoder: positions added to content, not beside it (added)")
    no_sampling: bool = option(False, "box decoder: every layer looks at the whole picture (added)")
    no_focal: bool = option(False, "box decoder: classes with \"no object\" by cross entropy, as DETR's (added)")
    layer_heads: str = option("shared", "box decoder: class and box heads that all decoder layers share, or own ones "
                              "for each (added)", ("shared", "own"))
    denoising: int = option(5, "box decoder: noisy copies of each object in training; 0: none (added)")
    query_groups: int = option(1, "box decoder: groups of queries in training, each of which finds all objects; only "
                               "the first is used afterwards (added)")
    query_boxes: str = option("learned", "box decoder: where queries begin: at learned boxes, or at proposals, which "
                              "the places of the picture make (added)", ("learned", "proposals"))
    num_classes: int | None = option(None, "largest label + 1; taken from the dataset if not given (added)")

    @property
    def stride(self) -> int:
        """Pixels of the picture from one place of the feature map to the next."""
        return 16 if self.dilation or self.backbone_stages < 4 else 32

    @property
    def two_stage(self) -> bool:
        """Whether queries begin at proposals."""
        return self.decoder == "box" and self.query_boxes == "proposals"

    @property
    def has_focal(self) -> bool:
        """Whether each class has a probability of its own, and none says "no object"."""
        return self.decoder == "box" and not self.no_focal


@dataclass(frozen=True)
class LossConfig:
    """matching and losses"""

    no_aux_loss: bool = option(False, "no auxiliary losses after each decoder layer")
    set_cost_class: float = option(1.0, "weight of the class in the matching cost")
    set_cost_bbox: float = option(5.0, "weight of the L1 distance of boxes in the matching cost")
    set_cost_giou: float = option(2.0, "weight of the generalised IoU in the matching cost")
    mask_loss_coef: float = option(1.0, "weight of the focal mask loss")
    dice_loss_coef: float = option(1.0, "weight of the dice mask loss")
    bbox_loss_coef: float = option(5.0, "weight of the L1 loss of boxes")
    giou_loss_coef: float = option(2.0, "weight of the generalised IoU loss")
    eos_coef: float = option(0.1, "weight of the class \"no object\" in the class loss")
    set_cost_focal: float = option(2.0, "box decoder: weight of the class in the matching cost (added)")
    focal_loss_coef: float = option(2.0, "box decoder: weight of the focal class loss (added)")
    class_loss: str = option("focal", "box decoder: focal, or quality, by which a class is to be as probable as its "
                             "box is good (added)", ("focal", "quality"))
    quality_loss_coef: float = option(1.0, "box decoder: weight of the class loss by quality (added)")
    focal_alpha: float = option(0.25, "box decoder: share of the object's class in the focal loss and cost (added)")


@dataclass(frozen=True)
class OptimConfig:
    """optimizer and schedule"""

    lr: float = option(1e-4, "learning rate")
    lr_backbone: float = option(1e-5, "learning rate of the backbone; 0 freezes it")
    batch_size: int = option(2, "pictures a step, in each process")
    weight_decay: float = option(1e-4, "weight decay (AdamW)")
    epochs: int = option(300, "epochs")
    lr_drop: int = option(200, "epochs after which the learning rates drop tenfold, again and again")
    lr_schedule: str = option("step", "how the learning rates fall: step, as --lr_drop says, or cosine, to 0 over all "
                              "epochs (added)", ("step", "cosine"))
    clip_max_norm: float = option(0.1, "largest norm of all gradients together; 0: no clipping")
    warmup_steps: int = option(0, "steps in which the learning rates rise from 0 (added)")
    freeze: str = option("none", "what is not trained: backbone, or transformer (backbone, its projection and the "
                         "transformer, so that queries and heads remain) (added)", ("none", "backbone", "transformer"))
    accumulate: int = option(1, "batches that make one step together, one after the other: as one batch so many times "
                                "as large, in the memory of one (added)")
    ema: bool = option(False, "keep moving averages of the weights, to evaluate and to predict with (added)")
    early_stop: int = option(0, "stop after so many evaluations without a better AP; 0: never (added)")
    max_steps: int | None = option(None, "stop after so many steps (added)")


@dataclass(frozen=True)
class DataConfig:
    """data"""

    dataset_file: str = option("coco", "kind of dataset", ("coco", "coco_panoptic"))
    coco_path: str | None = option(None, "folder with a dataset of COCO's, YOLO's or Pascal VOC's format, whose layout "
                                   "is found out; also a data.yaml or a JSON file")
    train_json: str | None = option(None, "annotations to train on, in COCO's format, in place of --coco_path (added)")
    val_json: str | None = option(None, "annotations to validate with; none: a part of those of training (added)")
    train_images: str | None = option(None, "folder of the pictures of --train_json; looked for if not given (added)")
    val_images: str | None = option(None, "folder of the pictures of --val_json; looked for if not given (added)")
    coco_panoptic_path: str | None = option(None, "folder with the panoptic annotations and pictures")
    crowds: str = option("ignore", "objects marked iscrowd: ignore them in training, as the reference code does, or "
                         "take them as objects (added)", ("ignore", "objects"))
    remove_difficult: bool = option(False, "leave out objects that are marked difficult")
    min_size: int = option(800, "short side of the pictures; the scales of training shrink with it (added)")
    max_size: int = option(1333, "longest side of the pictures (added)")
    augmentation: str = option("full", "training pictures: full as in the paper, flip only, or none (added)",
                               ("full", "flip", "none"))
    num_workers: int = option(2, "processes that read pictures")
    max_bad_images: int = option(10, "stop when more pictures than this cannot be read; each is left out (added)")


@dataclass(frozen=True)
class RunConfig:
    """the run"""

    framework: str = option("jittor", "which twin runs (added)", FRAMEWORKS)
    output_dir: str = option("", "folder for logs and checkpoints; none: nothing is written")
    device: str = option("auto", "cpu, cuda, or auto: the GPU where the framework can use one")
    seed: int = option(42, "seed of everything random")
    resume: str = option("", "checkpoint to go on from, of either framework; auto: the newest in output_dir, if any")
    save_every_steps: int = option(0, "write a checkpoint every so many steps too; 0: only after an epoch (added)")
    eval_every: int = option(1, "evaluate after every so many epochs, and after the last (added)")
    eval_train: int = option(0, "evaluate on so many of the training pictures too, the first of the file, without "
                             "augmentation (added)")
    start_epoch: int = option(0, "number of the first epoch")
    eval: bool = option(False, "evaluate and stop")
    backbone_weights: str = option("auto", "ImageNet weights of the backbone: auto (download once), none, or a file "
                                   "(added)")
    weights: str = option("", "weights to begin with, of any known kind of file, or the name of a published model such "
                          "as detr-r50; a class head of other classes is replaced (added)")
    frozen_weights: str | None = option(None, "train only the mask head, on top of this checkpoint")
    world_size: int = option(1, "number of processes; taken from mpirun or torchrun if not given")
    dist_url: str = option("env://", "where the processes of the PyTorch twin meet")
    dropout_masks: str = option("native", "dropout masks of the PyTorch twin: its own random numbers, or those that "
                                "the Jittor twin makes, so that runs can be compared (added)", ("native", "shared"))
    precision: str = option("float32", "what is multiplied: float32, or bf16 with float32 weights and sums (added)",
                            ("float32", "bf16"))
    threads: int = option(0, "how many threads compute; 0: one for each processor that this process may use, shared "
                          "with others of mpirun or torchrun (added)")
    track: str = option("tensorboard", "who is told the figures besides the log, with commas between: "
                        f"{', '.join(TRACKERS)}; none: nobody (added)")
    plain: bool = option(False, "plain framework operators only, none of our kernels (added)")

    @property
    def trackers(self) -> list[str]:
        """The names in --track, each once."""
        return [] if self.track == "none" else list(dict.fromkeys(self.track.split(",")))


@dataclass(frozen=True)
class Config:
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    run: RunConfig = RunConfig()

    def replace(self, **values) -> "Config":
        """A copy with other values, each named by its option: `config.replace(lr=1e-3, backbone="resnet18")`.

        Errors: DetrError for an unknown option, and for a value of another type or that is not among the choices.
        """
        values = {name: checked(name, v, "settings") if name in OPTIONS else v for name, v in values.items()}
        groups = {}
        for group in dataclasses.fields(self):
            old = getattr(self, group.name)
            mine = {f.name: values.pop(f.name) for f in dataclasses.fields(old) if f.name in values}
            groups[group.name] = dataclasses.replace(old, **mine)
        if values:
            raise DetrError(f"unknown option {sorted(values)[0]!r}.", "See --help for the options.")
        return Config(**groups)

    def flat(self) -> dict:
        """{option: value}, all groups together, as the reference's `args`."""
        return {name: getattr(getattr(self, group), name) for name, (group, _, _) in OPTIONS.items()}

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **self.flat()}, indent=2)

    @staticmethod
    def from_json(text: str, origin: str = "config") -> "Config":
        """Read what `to_json` wrote; options that are absent keep their defaults.

        Errors: DetrError for text that is no JSON object, an unknown option, or a value of another type.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DetrError(f"{origin}: not valid JSON ({error}).", "Pass the config.json that a run wrote.") from None
        if not isinstance(values, dict):
            raise DetrError(f"{origin}: not a JSON object.", "Pass the config.json that a run wrote.")
        if why := unknown(values.pop("format", None)):
            raise DetrError(f"{origin}: {why}.", "Update this program, or pass a config.json of its own.")
        for name, value in values.items():
            if name not in OPTIONS:
                raise DetrError(f"{origin}: unknown option {name!r}.", "Remove it; --help lists the options.")
            values[name] = checked(name, value, origin)
        return Config().replace(**values)


def value_type(annotation) -> tuple[type, bool]:
    """(type, may be None) of a field's annotation."""
    if isinstance(annotation, types.UnionType):
        return next(a for a in typing.get_args(annotation) if a is not type(None)), True
    return annotation, False


OPTIONS: dict[str, tuple[str, type, dataclasses.Field]] = {
    f.name: (group.name, value_type(f.type)[0], f)
    for group in dataclasses.fields(Config)
    for f in dataclasses.fields(group.type)
}


def checked(name: str, value, origin: str):
    """`value` as the option's type. Errors: DetrError for another type or a value that is not among the choices."""
    _, kind, f = OPTIONS[name]
    optional = value_type(f.type)[1]
    if value is None and optional:
        return None
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise DetrError(f"{origin}: option {name} is a number of {value.bit_length()} bits.", "Give a smaller one.")
    if isinstance(value, str) and ("\0" in value or not is_unicode(value)):
        raise DetrError(f"{origin}: option {name} is {value!r}, which is no text in Unicode without null characters.",
                        "Give such a text; rename a file that has no such name.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DetrError(f"{origin}: option {name} is {value!r}, not of type {kind.__name__}.", "Give such a value.")
    choices = f.metadata["choices"]
    if choices and value not in choices:
        raise DetrError(f"{origin}: option {name} is {value!r}.", f"Choose from {', '.join(map(str, choices))}.")
    return value


def read_config(path: str | Path) -> Config:
    try:
        return Config.from_json(Path(path).read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DetrError(f"{path}: cannot be read ({error}).", "Pass the config.json that a run wrote.") from None
