"""What stands where in a checkpoint file: the reference code's keys, and ours beside them.

    model         {name: array}
    optimizer     torch.optim.AdamW's state_dict: parameters by number, those outside the backbone first
    lr_scheduler  torch.optim.lr_scheduler.StepLR's state_dict
    ema           {name: array}, moving averages of the weights, where they are kept
    epoch         the last finished epoch
    args          {option: value}, a plain dictionary, so that torch.load(weights_only=True) takes it
    detr_jittor   what the reference lacks: the step, the classes, the names of the numbered parameters, …
"""

import json
from dataclasses import dataclass, field, replace

import numpy as np

from detr_jittor.checkpoint import keymap_original, keymap_prefix, keymap_transformers
from detr_jittor.checkpoint.unpickle import BadFile
from detr_jittor.config.format import FORMAT, unknown
from detr_jittor.config.options import OPTIONS, Config
from detr_jittor.errors import DetrError, is_unicode
from detr_jittor.twin.parameters import in_backbone, is_trained
from detr_jittor.twin.schedule import lr_factor
from detr_jittor.types import Classes, State

PLACES = ("model", "state_dict", "model_state_dict", "model_state", "net")  # where files keep their weights


@dataclass
class Checkpoint:
    """A training run at one moment."""

    state: State
    epoch: int = -1  # the last finished epoch, −1 before the first
    step: int = 0  # training steps so far
    config: Config | None = None  # None in files from elsewhere
    classes: Classes | None = None  # None in files from elsewhere
    best_ap: float = -1.0  # the best AP so far, −1 before the first
    batches: int = 0  # batches done of the epoch after `epoch`
    epoch_length: int = 0  # batches in an epoch
    since_best: int = 0  # evaluations since the best AP
    thresholds: dict[int, float] = field(default_factory=dict)  # label → the score from which F1 was best, if measured
    sums: dict[str, list] = field(default_factory=dict)  # name → [sum, count] of what that epoch logged so far
    note: str = ""  # what a reader should be told about this file
    remarks: list[str] = field(default_factory=list)  # how this file was understood, a sentence each


def to_record(checkpoint: Checkpoint) -> dict:
    """A checkpoint as nested plain data with arrays at its leaves."""
    config = checkpoint.config or Config()
    record = {"model": checkpoint.state.model}
    groups = parameter_groups(checkpoint.state)
    if checkpoint.state.optimizer:
        record["optimizer"] = optimizer_record(checkpoint.state, groups, learning_rates(checkpoint, config), config)
        record["lr_scheduler"] = scheduler_record(checkpoint, config)
    if checkpoint.state.average:
        record["ema"] = checkpoint.state.average
    record["epoch"] = checkpoint.epoch
    if checkpoint.config:
        record["args"] = checkpoint.config.flat()
    record["detr_jittor"] = {
        "format": FORMAT, "step": checkpoint.step, "optimizer_steps": checkpoint.state.steps,
        "batches": checkpoint.batches, "epoch_length": checkpoint.epoch_length, "sums": checkpoint.sums,
        "best_ap": checkpoint.best_ap, "since_best": checkpoint.since_best, "parameters": groups,
        "classes": checkpoint.classes and checkpoint.classes.to_json(),
        "thresholds": {str(label): score for label, score in checkpoint.thresholds.items()},
    }
    return record


def parameter_groups(state: State) -> list[list[str]]:
    """The names of the trained parameters, outside the backbone and in it, each in the model's order: the numbering of
    torch's optimizer."""
    names = [name for name in state.model if name in state.optimizer]
    return [[n for n in names if not in_backbone(n)], [n for n in names if in_backbone(n)]]


def learning_rates(checkpoint: Checkpoint, config: Config) -> list[float]:
    """Of both groups, after the epoch: the reference saves after its scheduler's step."""
    factor = lr_factor(config.optim, checkpoint.epoch + 1, max(config.optim.warmup_steps, checkpoint.step))
    return [config.optim.lr * factor, config.optim.lr_backbone * factor]


def optimizer_record(state: State, groups: list[list[str]], rates: list[float], config: Config) -> dict:
    names = groups[0] + groups[1]
    numbers = [list(range(len(groups[0]))), list(range(len(groups[0]), len(names)))]
    base = (config.optim.lr, config.optim.lr_backbone)
    return {
        "state": {i: {"step": state.steps, "exp_avg": state.optimizer[name][0], "exp_avg_sq": state.optimizer[name][1]}
                  for i, name in enumerate(names)},
        "param_groups": [{"lr": rate, "initial_lr": first, "betas": (0.9, 0.999), "eps": 1e-8,
                          "weight_decay": config.optim.weight_decay, "amsgrad": False, "params": params}
                         for rate, first, params in zip(rates, base, numbers)],
    }


def scheduler_record(checkpoint: Checkpoint, config: Config) -> dict:
    rates = learning_rates(checkpoint, config)
    return {"step_size": config.optim.lr_drop, "gamma": 0.1, "base_lrs": [config.optim.lr, config.optim.lr_backbone],
            "last_epoch": checkpoint.epoch + 1, "_step_count": checkpoint.epoch + 2,
            "_get_lr_called_within_step": False, "_last_lr": rates}


def from_record(record) -> Checkpoint:
    """The checkpoint of a file's content: ours, the reference's, or a bare dictionary of arrays (weights only).

    Errors: BadFile.
    """
    model, remarks = understood(record)
    ours = record.get("detr_jittor")
    if not isinstance(ours, dict):
        return replace(foreign(record, model), remarks=remarks)
    if why := unknown(ours.get("format")):
        raise BadFile(why)
    names = [name for group in ours["parameters"] for name in group]
    moments = moments_by_number(record["optimizer"], len(names)) if names else []
    average = weights(record["ema"]) if "ema" in record else {}
    state = State(model, dict(zip(names, moments)), whole(ours["optimizer_steps"]), average)
    batches, epoch_length = whole(ours["batches"]), whole(ours["epoch_length"])
    if batches > epoch_length:
        raise BadFile("damaged (more batches are done than an epoch has)")
    return Checkpoint(
        state, whole(record["epoch"], least=-1), whole(ours["step"]), options(record.get("args")),
        classes(ours["classes"]), float(ours["best_ap"]), batches, epoch_length, whole(ours.get("since_best", 0)),
        sums={str(name): [float(total), whole(count)] for name, (total, count) in ours["sums"].items()},
        thresholds={whole(int(label)): share(score) for label, score in ours.get("thresholds", {}).items()})


def weights(record) -> dict[str, np.ndarray]:
    """The weights in a file's content by the reference code's keys, half precision widened to float32 (exactly)."""
    return understood(record)[0]


def understood(record) -> tuple[dict[str, np.ndarray], list[str]]:
    """(what `weights` gives, what was unusual about the file)."""
    if not isinstance(record, dict):
        raise BadFile("no checkpoint (it holds no dictionary)")
    place = next((key for key in PLACES if isinstance(record.get(key), dict)), None)
    model = record if place is None else record[place]
    if not model or not all(isinstance(n, str) and isinstance(v, np.ndarray) for n, v in model.items()):
        raise BadFile("no checkpoint (neither \"model\" nor the file itself is a dictionary of arrays)")
    remarks = [] if place in (None, *PLACES[:2]) else [f"its weights are those under {place!r}"]
    model, prefix, others = keymap_prefix.without_prefix(model)
    if prefix:
        remarks.append(f"the names of its weights begin with {prefix!r}, which is left out")
    if others:
        remarks.append(f"{len(others)} arrays that do not begin so are left out ({', '.join(others[:3])})")
    model = {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in model.items()}
    try:
        if keymap_transformers.are_theirs(model):
            return keymap_transformers.from_transformers(model), remarks
        return (keymap_original.from_original(model) if keymap_original.are_theirs(model) else model), remarks
    except DetrError as error:
        raise BadFile(error.what.rstrip(".")) from None


def foreign(record: dict, model: dict[str, np.ndarray]) -> Checkpoint:
    """A file from elsewhere. Its optimizer numbers the parameters; the names follow from the model's order."""
    checkpoint = Checkpoint(State(model, {}), config=reference_options(record.get("args")))
    if isinstance(record.get("epoch"), int):
        checkpoint.epoch = record["epoch"]
    if "optimizer" not in record:
        return checkpoint
    try:
        checkpoint.state.optimizer, checkpoint.state.steps = numbered_moments(record["optimizer"], model)
    except (BadFile, KeyError, TypeError, AttributeError, ValueError, OverflowError):  # int() of an infinite step
        checkpoint.note = "its optimizer's state does not match its weights and is left out: AdamW starts anew"
    return checkpoint


def numbered_moments(optimizer: dict, model: dict[str, np.ndarray]) -> tuple[dict, int]:
    """({name: (exp_avg, exp_avg_sq)}, steps) of the reference code's optimizer, backbone frozen as it has it."""
    trained = [name for name in model if is_trained(name, Config())]
    sizes = [len(group["params"]) for group in optimizer["param_groups"]]
    names = [n for n in trained if not in_backbone(n)] + [n for n in trained if in_backbone(n)] * (sizes[1] > 0)
    moments = moments_by_number(optimizer, len(names))
    if sum(sizes) != len(names) or any(model[n].shape != m.shape for n, (m, _) in zip(names, moments)):
        raise BadFile("another number of parameters")
    return dict(zip(names, moments)), max(int(state["step"]) for state in optimizer["state"].values())


def moments_by_number(optimizer: dict, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = [(optimizer["state"][i]["exp_avg"], optimizer["state"][i]["exp_avg_sq"]) for i in range(count)]
    if not all(isinstance(array, np.ndarray) for pair in pairs for array in pair):
        raise BadFile("damaged (the optimizer's state)")
    return pairs


def options(values) -> Config | None:
    """The settings in one of our files. Errors: BadFile."""
    try:
        return None if values is None else Config.from_json(json.dumps(flat(values)), "its settings")
    except DetrError as error:
        raise BadFile(str(error)) from None


def reference_options(values) -> Config | None:
    """The settings in the reference code's `args`: those of its options that we have too."""
    if not isinstance(values, dict):
        return None
    known = {name: value for name, value in values.items() if name in OPTIONS and name != "device"}
    if values.get("aux_loss") is False:
        known["no_aux_loss"] = True
    try:
        return Config.from_json(json.dumps(flat(known)), "args")
    except (DetrError, BadFile):
        return None


def flat(values: dict) -> dict:
    """The values themselves, if they are plain: a hostile file can nest lists that JSON would write for ever."""
    if not isinstance(values, dict) or not all(isinstance(v, (str, int, float, type(None))) for v in values.values()):
        raise BadFile("damaged (settings that are no plain values)")
    return values


def classes(data) -> Classes | None:
    """The label ↔ category map. Errors: BadFile."""
    if data is None:
        return None
    ids, names, labels = (list(data[key]) for key in ("category_ids", "names", "labels"))
    typed = (all(type(x) is int for x in ids + labels) and all(type(x) is str and is_unicode(x) for x in names)
             and len(ids) == len(names) == len(labels))
    stuff = data.get("stuff")
    typed = typed and (stuff is None or (type(stuff) is list and all(type(x) is int for x in stuff)))
    if not typed or not all(0 <= label < whole(data["num_classes"]) for label in labels):
        raise BadFile("damaged (the classes)")
    return Classes.from_json(data)


def share(number) -> float:
    if type(number) is not float or not 0 <= number <= 1:
        raise BadFile("damaged (a threshold that is no number from 0 to 1)")
    return number


def whole(number, least: int = 0) -> int:
    if type(number) is not int or number < least:
        raise BadFile(f"damaged (a count that is no whole number from {least})")
    return number
