"""Stage 7: the gradient of every parameter, in training mode with dropout, with the assignment held equal.

The gradient jumps where a ReLU's input is 0: there a last digit decides, and an average network has a few such places
in a hundred million. So the truth is taken on the twin's own side of every kink, for each twin by itself; how often
that is not float64's own side, and how near 0 the input was there, is compared too.
"""

import hashlib

import numpy as np

from detr_jittor.align.measure import Item, compare, root_mean_square
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.twin.recorder import Gradients, Kinks


def run(trial: Trial) -> Stage:
    args = (trial.batch, trial.assignment(trial.seed), trial.seed)
    jittor = trial.ask(JITTOR, "gradients", *args)
    pytorch = trial.once("gradients", PYTORCH, "gradients", *args)
    if jittor.of.keys() != pytorch.of.keys():
        differing = sorted(jittor.of.keys() ^ pytorch.of.keys())
        return Stage("gradients", [Item("names", False, note=f"differ: {differing}")])
    truths = [truth(trial, args, found.kinks.sides) for found in (jittor, pytorch)]
    items = [kinks_item("kinks on the Jittor side", truths[0].kinks), kinks_item("kinks on the PyTorch side",
                                                                                truths[1].kinks)]
    items += [compare(name, jittor.of[name], pytorch.of[name], truths[0].of[name], scale,
                      pytorch_truth=truths[1].of[name]) for name, scale in scales(truths[0].of).items()]
    ours, theirs, *true = (norm(g.of) for g in (jittor, pytorch, *truths))
    items.append(compare("norm of all", ours, theirs, true[0], pytorch_truth=true[1]))
    return Stage("gradients", items, [f"dropout {trial.config.model.dropout}, the same masks in all three"])


def scales(gradients: dict[str, np.ndarray]) -> dict[str, float]:
    """What the errors of each gradient are relative to: its root mean square. One that is nothing but rounding, such as
    that of a key's bias, has no scale of its own."""
    sizes = {name: root_mean_square(g) for name, g in gradients.items()}
    least = tolerance("gradient scale") * max(sizes.values())
    return {name: max(size, least) for name, size in sizes.items()}


def truth(trial: Trial, args: tuple, sides: list[np.ndarray]) -> Gradients:
    """The float64 gradients on these sides of the kinks."""
    label = hashlib.sha256(b"".join(side.tobytes() for side in sides)).hexdigest()
    return trial.once(f"gradients {label}", FLOAT64, "gradients", *args, sides)


def kinks_item(name: str, kinks: Kinks) -> Item:
    note = f"{kinks.contrary} of {kinks.decisions:,} not on float64's own side"
    if kinks.contrary:
        note += f", inputs up to {kinks.farthest:.1e}"
    return Item(name, kinks.farthest <= tolerance("kink"), note=note)


def norm(gradients: dict[str, np.ndarray]) -> float:
    return np.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients.values()))
