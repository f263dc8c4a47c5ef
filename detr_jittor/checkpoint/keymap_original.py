"""The names of weights in the files of the project that this one succeeds: a Jittor DETR with three matrices in each
attention and the backbone one level deeper."""

import numpy as np

from detr_jittor.checkpoint.keymap_transformers import fused_attention


def are_theirs(model: dict[str, np.ndarray]) -> bool:
    return any("transformer." in name and "_attn.q_proj." in name for name in model)


def from_original(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights by that project's keys → by the reference code's.

    Errors: DetrError for an attention without one of its three matrices.
    """
    return fused_attention({name.replace("backbone.0.body.body.", "backbone.0.body."): value
                            for name, value in theirs.items()})
