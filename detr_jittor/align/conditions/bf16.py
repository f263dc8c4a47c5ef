"""bfloat16 (`--precision bf16`): outputs and gradients of the Jittor twin beside those of PyTorch's autocast, both
against float64. The verdict is that of float32: Jittor's error is at most so many times PyTorch's.

Both round where they choose to, so tensors inside the network need not be equally far off one by one.
"""

from detr_jittor.align.conditions.tensors import against_float64, tensors
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
    return Stage("bf16", items, ["both twins with --precision bf16, against float64"])
