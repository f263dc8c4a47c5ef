"""ImageNet weights for the backbone: torchvision's files, under the names that the model has."""

from pathlib import Path

import numpy as np

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.download import fetch
from detr_jittor.checkpoint.layout import weights
from detr_jittor.checkpoint.unpickle import BadFile
from detr_jittor.errors import DetrError
from detr_jittor.twin.statedict import SHOWN
from detr_jittor.types import State

SERVER = "https://download.pytorch.org/models/"
FILES = {"resnet18": "resnet18-f37072fd.pth", "resnet34": "resnet34-b627a593.pth",
         "resnet50": "resnet50-0676ba61.pth", "resnet101": "resnet101-63fe2227.pth"}
BODY = "backbone.0.body."
UNUSED = ("fc.",)  # ImageNet's own classifier
OPTIONAL = "num_batches_tracked"  # a counter that no forward pass reads


def weights_file(backbone: str, wanted: str) -> Path:
    """The file of ImageNet weights: `wanted` itself, or for "auto" torchvision's, from the cache or the network.

    Errors: DetrError if it is missing or cannot be fetched.
    """
    if wanted != "auto":
        return Path(wanted)
    try:
        return fetch(SERVER + FILES[backbone])
    except DetrError as error:
        raise DetrError(error.what, f"{error.fix} Or start the backbone from scratch with --backbone_weights none.") \
            from None


def with_backbone(state: State, path: Path, stages: int = 4) -> State:
    """A state in which the backbone has the weights of a ResNet's file.

    Args:
        stages: of the ResNet that the model uses; the file's later ones are left out.

    Errors: DetrError, listing together every missing, surplus and misshapen key.
    """
    try:
        found = weights(store.read(path))
    except BadFile as error:
        raise store.unreadable(path, error) from None
    unused = (*UNUSED, *(f"layer{stage}." for stage in range(stages + 1, 5)))
    found = {name.removeprefix(BODY): value for name, value in found.items()
             if not name.startswith(unused) and not name.endswith(OPTIONAL)}
    prefix = next(name.split(BODY)[0] for name in state.model if BODY in name) + BODY
    wanted = {name.removeprefix(prefix): value for name, value in state.model.items()
              if name.startswith(prefix) and not name.endswith(OPTIONAL)}
    faults = [f"{kind} ({len(names)}): {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
              for kind, names in (("missing", [n for n in wanted if n not in found]),
                                  ("surplus", [n for n in found if n not in wanted]),
                                  ("of another shape", [n for n in wanted if n in found
                                                        and found[n].shape != wanted[n].shape])) if names]
    if faults:
        raise DetrError(f"{path}: not the weights of this backbone; {'; '.join(faults)}.",
                        "Pass the file of the ResNet that --backbone names.")
    replaced = {prefix + name: np.asarray(value, wanted[name].dtype) for name, value in found.items()}
    return State({**state.model, **replaced}, {})
