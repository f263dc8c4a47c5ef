"""bfloat16 (`--precision bf16`): outputs and gradients of the Jittor twin beside those of PyTorch's autocast, both
against float64. The verdict is that of float32: Jittor's error is at most so many times PyTorch's.

Both round where they choose to, so tensors inside the network need not be equally far off one by one.
"""

from detr_jittor.align.measure import Item, compare
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.gradients import scales, truth
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import FLOAT64, Trial
from detr_jittor.align.witness import Role

ROLES = [Role("jittor, bf16", "jittor", precision="bf16"), Role("pytorch, bf16", "pytorch", precision="bf16")]


def run(trial: Trial) -> Stage:
    args = trial.batch, trial.assignment(trial.seed), trial.seed
    outputs, gradients = [], []
    for role in ROLES:
        trial.start(role.name, role=role)
        outputs.append(trial.ask(role.name, "modules", trial.batch))
        gradients.append(trial.ask(role.name, "gradients", *args))
        trial.stop(role.name)
    true = trial.once("modules", FLOAT64, "modules", trial.batch)
    (ours, theirs), ceiling = outputs, tolerance("bf16 ceiling")
    items = [compare(path, ours[path], theirs[path], true[path], ceiling=ceiling)
             if path in ours and path in theirs else missing(path) for path in true]
    # Each on its own side of every kink: a rounding of bfloat16 is larger than many inputs of a ReLU
    truths = [truth(trial, args, found.kinks.sides) for found in gradients]
    ours, theirs = (found.of for found in gradients)
    items += [compare(f"gradient of {path}", ours[path], theirs[path], truths[0].of[path], scale,
                      pytorch_truth=truths[1].of[path], ceiling=ceiling)
              for path, scale in scales(truths[0].of).items()]
    return Stage("bf16", items, ["both twins with --precision bf16, against float64"])


def missing(path: str) -> Item:
    return Item(path, False, note="one of the twins has no such output")
