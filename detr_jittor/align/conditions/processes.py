"""Two processes with half of the batch each against one with the whole, in both twins: every loss and the gradient of
every parameter of a training step, as AdamW's first moments hold it, and the same weights in both after it.

The verdict is that of the other stages, with other roles: the error of two processes is at most so many times that of
one, both against float64, which works through the halves one after the other and through the whole. Without dropout,
since each process drops elements of its own.
"""

from dataclasses import dataclass

import numpy as np

from detr_jittor.align.measure import Item, compare, exact
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.gradients import scales
from detr_jittor.align.stages.training import before_first_step
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.align.witness import Role
from detr_jittor.errors import DetrError
from detr_jittor.reference.optim import adamw, clip_factor
from detr_jittor.twin.parts import added, portions

PROCESSES = 2


def run(trial: Trial) -> Stage:
    if len(trial.batch) < PROCESSES:
        raise DetrError(f"a batch of {len(trial.batch)} has nothing for each of {PROCESSES} processes.",
                        f"Give --batch_size {PROCESSES} or more.")
    if trial.config.model.backbone_norm == "batch":
        raise DetrError("a trained batch norm takes its statistics from the pictures of one process, so that two "
                        "processes compute something else than one.", "Give --backbone_norm frozen.")
    without_dropout = Trial(trial.config.replace(dropout=0.0), trial.state, trial.plan)
    try:
        items = [item for framework in (JITTOR, PYTORCH) for item in twin_items(without_dropout, framework)]
    finally:
        without_dropout.close()
    return Stage("processes", items, [
        f"{PROCESSES} processes with a part of the batch each, whose errors stand in the columns of Jittor, against "
        "one process of the same twin with the whole, whose errors stand in those of PyTorch"])


@dataclass(frozen=True)
class Truth:
    """What a step must give."""

    losses: dict[str, float]
    norm: float
    moments: dict[str, np.ndarray]


def twin_items(trial: Trial, framework: str) -> list[Item]:
    """One twin: its process alone and its two together."""
    together = f"{framework}, {PROCESSES} processes"
    trial.start(together, role=Role(together, framework, processes=PROCESSES))
    # Before the first step, so that the moments after it are the gradients
    args = (before_first_step(trial), trial.batch, trial.assignment(trial.seed), trial.seed)
    shares = sorted(trial.ask(together, "share_step", *args), key=lambda share: share.rank)
    trial.stop(together)
    one, two = trial.ask(framework, "share_step", *args), shares[0]
    true_one, true_two = truth(trial, [one.sides]), truth(trial, [share.sides for share in shares])
    sums = [share.weights for share in shares]
    items = [exact(f"{framework}: weights of all processes after the step", sums, sums[:1] * len(sums))]
    items += [compare(f"{framework}: {name}", two.log[name], one.log[name], value)
              for name, value in true_one.losses.items()]
    items.append(compare(f"{framework}: gradient norm", two.log["grad_norm"], one.log["grad_norm"], true_two.norm,
                         pytorch_truth=true_one.norm))
    items += [compare(f"{framework}: gradient of {name}", two.moments[name], one.moments[name], true_two.moments[name],
                      scale, pytorch_truth=true_one.moments[name])
              for name, scale in scales(true_two.moments).items()]
    return items


def truth(trial: Trial, sides: list[list[np.ndarray]]) -> Truth:
    """In float64, part by part, each on the side of every kink that its process took.

    The normalisers of a part are told what the other parts hold; so nothing here knows of processes.
    """
    losses, gradients = [], []
    of_all = portions(trial.batch, trial.assignment(trial.seed), len(sides))
    for (part, rest, indices), own in zip(of_all, sides, strict=True):
        losses.append(trial.ask(FLOAT64, "losses", part, indices, rest))
        gradients.append(trial.ask(FLOAT64, "gradients", part, indices, trial.seed, own, rest).of)
    whole = {name: sum(of[name] for of in gradients) for name in gradients[0]}
    clip, norm = clip_factor(list(whole.values()), trial.config.optim.clip_max_norm)
    nothing = np.zeros(())
    moments = {name: adamw(nothing, clip * gradient, nothing, nothing, 1, 0.0)[1] for name, gradient in whole.items()}
    # A share of correct classes or of found objects is a mean over the pictures of one process
    return Truth({name: value for name, value in added(losses).items() if name.startswith("loss")}, norm, moments)
