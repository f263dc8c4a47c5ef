"""Weights of one model as the start of another: what fits is kept, the class head and the mask head may differ.

C classes; row C of a class head is "no object".
"""

from pathlib import Path

import numpy as np

from detr_jittor.checkpoint.architecture import HEADS, classes_of, num_classes
from detr_jittor.checkpoint.backbone import OPTIONAL
from detr_jittor.checkpoint.keymap_transformers import OF_MASKS
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.errors import DetrError, visible
from detr_jittor.twin.parameters import as_last_layers
from detr_jittor.types import Classes, State

OF_LAYERS = "class_heads.", "box_heads."  # of the decoder layers before the last, which may have their own
BOX, LABELS = "query_content.weight", "label_embed.weight"  # only in a box decoder; only with noisy copies
PROPOSALS, BOXES = "proposals.", ("query_box.weight", "group_box.weight")  # only in two stages; only in one
OF_GROUPS = "group_content.weight", "group_box.weight"  # only with several groups of queries
COMMON = ("backbone.", "input_proj.", "transformer.encoder.")  # what detectors of both kinds have
HEAD_ROOMS = tuple(f"{prefix}{name}." for name in HEADS for prefix in ("", "detr."))
SHOWN = 12  # names of classes listed of each kind


def fitted(file: str, checkpoint: Checkpoint, own: dict[str, np.ndarray], classes: Classes) -> tuple[State, list[str]]:
    """A state for a model, from a checkpoint with other classes perhaps, and with or without masks.

    Args:
        own: the model's weights as they were initialised; what is replaced starts from these.
        classes: the dataset's.

    Returns: (state, what was kept and what was replaced, a line each). Keys that still do not fit are left in the
        state or absent from it, for the model's strict loader to list.

    Errors: DetrError if nothing of the file fits the model.
    """
    given = {name.removeprefix("detr."): value for name, value in checkpoint.state.model.items()
             if not name.endswith(OPTIONAL)}
    prefix = "detr." if any(name.startswith("detr.") for name in own) else ""
    mask_parts = sorted({name.split(".")[0] for name in own if name.startswith(OF_MASKS)}
                        ^ {name.split(".")[0] for name in given if name.startswith(OF_MASKS)})
    state = {own_name(name, prefix): value for name, value in given.items() if name.split(".")[0] not in mask_parts}
    state |= {name: value for name, value in own.items() if name.split(".")[0] in mask_parts}
    remarks = []
    if mask_parts:
        remarks.append(f"{' and '.join(mask_parts)}: {'start anew' if prefix else 'left out, as --masks is not given'}")
    if BOX in given:
        remarks += fitted_heads(state, given, own) + fitted_stages(state, own) + fitted_groups(state, own)
    head = next(name for name in HEADS if f"{prefix}{name}.weight" in own)
    of_head = f"{head}.weight", f"{head}.bias"
    if (BOX in given) != (BOX in own):
        remarks.append(other_decoder(state, own))
    elif not all(name in given for name in of_head):
        remarks.append("class head: not in the file, starts anew")
        state = {name: value for name, value in state.items() if not name.startswith(HEAD_ROOMS)}
        state |= {prefix + name: own[prefix + name] for name in of_head}
        remarks += fitted_labels(state, own)
    else:
        after = len(own[prefix + of_head[0]]) - HEADS[head]
        kept, remark = matching_rows(checkpoint, num_classes(checkpoint), classes, after, HEADS[head] > 0)
        remarks += [remark, *fitted_labels(state, own)]
        of_layers = [name for name in own if name.startswith((OF_LAYERS[0], f"{PROPOSALS}{head}."))]
        for name in (*of_head, *of_layers, LABELS) if kept is not None else ():
            if name in given and prefix + name in own:
                rows = {k: v for k, v in kept.items() if k < after or name != LABELS}
                if has_rows(given[name], own[prefix + name], rows):
                    state[prefix + name] = with_rows(own[prefix + name], given[name], rows)
    loaded = sum(name in state and state[name] is not value and state[name].shape == value.shape
                 for name, value in own.items())
    if not loaded:
        backbone = " To start only the backbone from it, pass --backbone_weights." if "layer1.0.conv1.weight" in given \
            else ""
        raise DetrError(f"{file}: none of its {len(given)} arrays is one of this model's.",
                        f"Pass the weights of a DETR.{backbone}")
    return State(state, {}), [f"{Path(file).name}: {loaded} of {len(own)} arrays are taken over", *remarks]


def other_decoder(state: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> str:
    """Fit the weights of a detector with the other kind of decoder: of what stands behind the encoder only arrays of
    the same name and shape are kept. Returns: what starts anew, in words."""
    for name in [n for n in state if not n.removeprefix("detr.").startswith(COMMON)]:
        if name not in own or state[name].shape != own[name].shape or name.startswith(HEAD_ROOMS):
            del state[name]
    anew = {n: v for n, v in own.items() if n not in state and not n.removeprefix("detr.").startswith(COMMON)}
    state.update(anew)
    parts = sorted({".".join(name.split(".")[:2 if name.startswith("transformer.") else 1]) for name in anew})
    return f"another decoder: {len(anew)} arrays start anew, of {', '.join(parts)}"


def fitted_heads(state: dict[str, np.ndarray], given: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> list[str]:
    """Give decoder layers that have heads of their own, of which the file knows nothing, the one that it has. Returns:
    what happens to them."""
    anew = [name for name in own if name.startswith(OF_LAYERS) and name not in given]
    for name in anew:
        given[name] = state[name] = given.get(as_last_layers(name, given), own[name])
    return ["heads of the decoder layers: each begins as the last one of the file"] if anew else []


def fitted_stages(state: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> list[str]:
    """Where queries begin: at boxes of their own, or at proposals. Returns: what happens to them, if the file has the
    other."""
    two, wanted = (any(name.startswith(PROPOSALS) for name in weights) for weights in (state, own))
    if two == wanted:
        return []
    for name in [name for name in state if name.startswith(PROPOSALS) or name in BOXES]:
        del state[name]
    state.update({name: value for name, value in own.items() if name.startswith(PROPOSALS) or name in BOXES})
    return [f"the boxes at which queries begin: start anew, as --query_boxes is {'proposals' if wanted else 'learned'}"]


def fitted_groups(state: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> list[str]:
    """The groups of queries besides the first are of training alone, and may be others. Returns: what happens to them.
    """
    found, wanted = ([weights[name].shape for name in OF_GROUPS if name in weights] for weights in (state, own))
    if found == wanted:
        return []
    for name in OF_GROUPS:
        state.pop(name, None)
        if name in own:
            state[name] = own[name]
    return ["groups of queries besides the first: " + ("start anew" if OF_GROUPS[0] in own else
                                                       "left out, as --query_groups is 1")]


def fitted_labels(state: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> list[str]:
    """The labels that noisy copies show are there only where there are copies. Returns: what happens to them."""
    if (LABELS in state) == (LABELS in own):
        return []
    if LABELS in own:
        state[LABELS] = own[LABELS]
        return [f"{LABELS}: starts anew"]
    del state[LABELS]
    return [f"{LABELS}: left out, as --denoising is 0"]


def own_name(name: str, prefix: str) -> str:
    return name if name.startswith(OF_MASKS) else prefix + name


def matching_rows(checkpoint: Checkpoint, before: int, classes: Classes, after: int, no_object: bool):
    """({row of the new head: row of the old one}, what happens to the head); None if the head stays as it is.

    Classes match by their names, without regard to case.
    """
    theirs = classes_of(checkpoint)
    if before == after and theirs is None:
        return None, f"class head: kept, it has as many classes ({before}), of unknown names"
    kept = {} if theirs is None else theirs.labels_for(classes)
    if before == after and all(kept.get(label) == label for label in classes.labels):
        return None, f"class head: kept, the {before} classes are the same"
    new = [name for name, label in zip(classes.names, classes.labels) if label not in kept]
    parts = ["\"no object\" kept"] * no_object
    if kept:
        parts.append(f"{len(kept)} kept by name ({shown([classes.name_of()[label] for label in kept])})")
    if new:
        parts.append(f"{len(new)} start anew ({shown(new)})")
    besides = {after: before} if no_object else {}
    return {**kept, **besides}, f"class head: replaced, {before} → {after} classes; {', '.join(parts)}"


def has_rows(given: np.ndarray, own: np.ndarray, kept: dict[int, int]) -> bool:
    """Whether an old head [C + 1, …] can give the new one its rows; one of another width, or damaged, is for the strict
    loader to tell with the rest."""
    return given.shape[1:] == own.shape[1:] and len(given) > max(kept.values(), default=0)


def with_rows(own: np.ndarray, given: np.ndarray, kept: dict[int, int]) -> np.ndarray:
    """The new head [C + 1, …] with some rows of the old one."""
    own = own.copy()
    own[list(kept)] = given[list(kept.values())]
    return own


def shown(names: list[str]) -> str:
    return ", ".join(map(visible, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")


def trained_parts(shapes: dict[str, tuple[int, ...]], trained: set[str]) -> str:
    """What is trained and what is frozen, in numbers of each part of the model."""
    def size(names) -> int:
        return sum(int(np.prod(shapes[name])) for name in names)

    parts: dict[str, list[str]] = {}
    for name in shapes:
        parts.setdefault(name.removeprefix("detr.").split(".")[0], []).append(name)
    lines = []
    for part, names in parts.items():
        all_of_it, moving = size(names), size(name for name in names if name in trained)
        if moving == all_of_it:
            lines.append(f"{part} {moving:,} trained")
        else:
            lines.append(f"{part} {all_of_it - moving:,} of {all_of_it:,} frozen" if moving
                         else f"{part} {all_of_it:,} frozen")
    return "; ".join(lines)
