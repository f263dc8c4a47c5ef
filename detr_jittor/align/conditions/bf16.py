"""bfloat16 (`--precision bf16`): outputs and gradients of the Jittor twin beside those of PyTorch's autocast, both
against float64. The verdict is that of float32: Jittor's error is at most so many times PyTorch's. Besides, each error
must be of the size of bfloat16: a twin that has stayed in float32 without a word would be the best of all.

Both round where they choose to, so tensors inside the network need not be equally far off one by one.
"""

import numpy as np

from detr_jittor.align.conditions.tensors import against_float64, tensors
from detr_jittor.align.measure import Error, Item
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import Trial
from detr_jittor.align.witness import Role

ROLES = [Role("jittor, bf16", "jittor", precision="bf16"), Role("pytorch, bf16", "pytorch", precision="bf16")]


def run(trial: Trial) -> Stage:
    found = []
    for role in ROLES:
        trial.start(role.name, role=role)
        found.append(tensors(trial, role.name))
        trial.stop(role.name)
    items = against_float64(trial, *found, ceiling=tolerance("bf16 ceiling"))
    items += [in_force(role.name, [getattr(item, role.framework) for item in items]) for role in ROLES]
    return Stage("bf16", items, ["both twins with --precision bf16, against float64"])


def in_force(name: str, errors: list[Error | None]) -> Item:
    """Args: errors: of a twin's tensors."""
    median = float(np.median([error.rms for error in errors if error]))
    return Item(f"{name}: computed in bfloat16", median > tolerance("bf16 in force"),
                note=f"error of {median:.1e} in the median")
