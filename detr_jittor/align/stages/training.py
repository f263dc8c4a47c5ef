"""Stage 9: training with the whole recipe (augmentation, dropout, matching, clipping, AdamW) on batches of many sizes.

Lock-step: every step of all twins starts from the same state, that of PyTorch's run, and the updates are compared. A
step that differs is looked at again: a near-tie in the matching or an input next to a ReLU's kink is no fault.
Free-running: each twin goes on by itself. Errors then grow from step to step, in any float32 arithmetic, and a single
rounding can send a run far: of five runs of the Jittor twin whose weights differed in their last bits (R50 with masks,
four steps), three were at most 5.6e-5 from float64, the others 2.0e-4 and 2.6e-4. So each twin has several such runs,
of which Jittor's median is held against the farthest of PyTorch's: a fault of the twin is in all of its runs.
"""

from itertools import count, islice

import numpy as np

from detr_jittor.align.measure import Error, Item, compare, root_mean_square, within
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.gradients import kinks_item
from detr_jittor.align.stages.matching import assignment_item, columns_of
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.twin import seeding
from detr_jittor.twin.parameters import in_backbone
from detr_jittor.types import Batch, State

PERTURBED = 4  # further runs of each twin, from weights with other last bits; with the first an odd number


def run(trial: Trial) -> Stage:
    batches = training_batches(trial)
    seeds = [seeding.step_seed(trial.config.run.seed, step) for step in range(len(batches))]
    start = start_state(trial)
    items, losses = lock_step(trial, start, batches, seeds)
    curves = {PYTORCH: losses}
    for name in (JITTOR, FLOAT64):
        curves[name] = free_run(trial, name, start, batches, seeds)
    for number in range(1, PERTURBED + 1):
        state = perturbed(start, trial.config.run.seed, number)
        for name in (JITTOR, PYTORCH):
            curves[f"{name}, last bits changed ({number})"] = free_run(trial, name, state, batches, seeds, number)
    items.append(free_item(curves))
    for name in (JITTOR, PYTORCH, FLOAT64):
        trial.ask(name, "load", trial.state)
    sizes = {batch.images.shape for batch in batches}
    remarks = [f"{len(batches)} steps, {len(sizes)} sizes of batches from {min(sizes)[2:]} to {max(sizes)[2:]}"]
    return Stage("training", items, remarks, curves)


def training_batches(trial: Trial) -> list[Batch]:
    """As many as there are steps; small datasets are gone through again."""
    epochs = (batch for _ in count() for batch in trial.batches("train", trial.step_config, train=True))
    return list(islice(epochs, trial.plan.steps))


def start_state(trial: Trial) -> State:
    """The trial's state; where it has no moments, with those of the first step."""
    return trial.state if trial.state.optimizer else before_first_step(trial)


def before_first_step(trial: Trial) -> State:
    """The trial's weights, with moments that are zero."""
    trained = trial.once("structure", PYTORCH, "structure")["trained"]
    return State(trial.state.model, {n: (np.zeros_like(trial.state.model[n]),) * 2 for n in trained}, 0)


def lock_step(trial: Trial, start: State, batches: list[Batch], seeds: list[int]) -> tuple[list[Item], list[float]]:
    """(items, PyTorch's losses)"""
    items, losses, before = [], [], start
    for step, (batch, seed) in enumerate(zip(batches, seeds)):
        args = ("step_from", before, batch, seed)
        pytorch = trial.once(f"lock-step {step}", PYTORCH, *args)
        truth = trial.once(f"lock-step {step}", FLOAT64, *args)
        jittor = trial.ask(JITTOR, *args)
        found = step_items(step, before, jittor, pytorch, truth)
        if not all(item.passed for item in found):
            found = excused(trial, found, before, batch, seed)
        if not all(item.passed for item in found):
            found = on_own_sides(trial, step, before, jittor, pytorch, truth, batch, seed)
        items += found
        losses.append(pytorch[0]["loss"])
        before = pytorch[1]
        if not trial.plan.keep_all:
            trial.forget(f"lock-step {step}")
    return items, losses


def step_items(step: int, before: State, jittor, pytorch, truth, pytorch_truth=None) -> list[Item]:
    """One step: loss, gradient norm, and the update of both groups of weights.

    Args: pytorch_truth: what PyTorch's step is held against, if not the same.
    """
    logs, states = zip(jittor, pytorch, truth, pytorch_truth or truth)
    items = [compare(f"step {step}: loss", *(log["loss"] for log in logs[:3])),
             compare(f"step {step}: gradient norm", *(log["grad_norm"] for log in logs[:3]),
                     floor=tolerance("grad_norm floor") * logs[2]["grad_norm"], pytorch_truth=logs[3]["grad_norm"])]
    for group, inside in (("transformer", False), ("backbone", True)):
        names = [n for n in before.optimizer if in_backbone(n) == inside]
        if names:
            items.append(update_item(f"step {step}: update of the {group}", names, before, *states))
    return items


def update_item(name: str, names: list[str], before: State, jittor: State, pytorch: State, truth: State,
                pytorch_truth: State) -> Item:
    """The updates of many weights as one long vector."""
    squares = np.zeros(3)  # of the errors of jittor and pytorch, and of the true update
    worst, worst_name = np.zeros(2), ""
    for n in names:
        update = truth.model[n] - before.model[n].astype(np.float64)
        errors = [np.abs(state.model[n] - true.model[n]) for state, true in ((jittor, truth), (pytorch, pytorch_truth))]
        squares += [np.square(x).sum() for x in (*errors, update)]
        largest = np.array([e.max() for e in errors])
        if not largest[0] <= worst[0]:  # NaN comes first
            worst_name = n
        worst = np.maximum(worst, largest)
    numbers = sum(before.model[n].size for n in names)
    scale = np.sqrt(squares[2] / numbers)
    ours, theirs = (Error(np.sqrt(s / numbers) / scale, w / scale, float("nan"), w) for s, w in zip(squares, worst))
    note = f"largest in {worst_name}"
    return Item(name, within(ours.rms, theirs.rms, "update floor"), (numbers,), ours, theirs,
                ours.rms / theirs.rms if theirs.rms > 0 else None, note=note)


def excused(trial: Trial, items: list[Item], before: State, batch: Batch, seed: int) -> list[Item]:
    """A step that differs because of near-ties in the matching passes; the items say so."""
    answers = {}
    for name in (JITTOR, PYTORCH, FLOAT64):
        trial.ask(name, "load", before)
        answers[name] = trial.ask(name, "matching", batch, seed)
    truth, best = answers[FLOAT64]
    first, columns = len(truth) - len(best), columns_of([len(t.labels) for t in batch.targets])
    found = [assignment_item(name, pictures[i], truth[layer, i][:, c]) for name in (JITTOR, PYTORCH)
             for layer, pictures in enumerate(answers[name][1], first) for i, c in enumerate(columns)]
    ties = [item for item in found if item.note.startswith("near-tie")]
    if not ties or not all(item.passed for item in found):
        return items
    return [Item(i.name, True, i.shape, i.jittor, i.pytorch, i.ratio, note=ties[0].note) for i in items]


def on_own_sides(trial: Trial, step: int, before: State, jittor, pytorch, truth, batch: Batch, seed: int) -> list[Item]:
    """The items of a step, with the truth on each twin's own side of every ReLU's kink, as in the stage of gradients.

    A single input on the other side changes gradients by far more than its last digit, and AdamW's first step, which
    takes the sign of a gradient alone, makes whole updates of the small ones.
    """
    trial.ask(FLOAT64, "load", before)
    indices = trial.ask(FLOAT64, "matching", batch, seed)[1]
    items, truths = [], []
    for name, side in ((JITTOR, "Jittor"), (PYTORCH, "PyTorch")):
        trial.ask(name, "load", before)
        sides = trial.ask(name, "gradients", batch, indices, seed).kinks.sides
        trial.ask(FLOAT64, "load", before)
        true = trial.ask(FLOAT64, "gradients", batch, indices, seed, sides)
        state, norm = trial.ask(FLOAT64, "update", before, true.of, 1.0)
        items.append(kinks_item(f"step {step}: kinks on the {side} side", true.kinks))
        truths.append(({"loss": truth[0]["loss"], "grad_norm": norm}, state))
    return items + step_items(step, before, jittor, pytorch, *truths)


def perturbed(state: State, seed: int, number: int) -> State:
    """The state with the last bit of every other weight changed, by chance: other ones with each number."""
    rng = seeding.generator(seed, seeding.place_id("last bits"), number)
    bits = {name: value.view(np.uint32) ^ rng.integers(0, 2, value.shape, np.uint32)
            for name, value in state.model.items()}
    return State({name: value.view(np.float32) for name, value in bits.items()}, state.optimizer, state.steps)


def free_run(trial: Trial, name: str, start: State, batches: list[Batch], seeds: list[int],
             number: int = 0) -> list[float]:
    """The loss of every step of a twin that goes on by itself. Args: number: of the perturbed state."""
    def train(*args):
        return trial.ask(name, *args) if name == JITTOR else trial.once(f"free run {number}", name, *args)

    return train("free_run", start, batches, seeds)


def free_item(curves: dict[str, list[float]]) -> Item:
    """Jittor's run that is the median by its largest distance from float64, against the noise band: at each step the
    distance of the PyTorch run that is farthest away."""
    truth = np.array(curves[FLOAT64])
    away = {name: np.abs(np.array(curves[name]) - truth) / np.abs(truth) for name in curves}
    jittor, pytorch = ([x for name, x in away.items() if name.startswith(twin)] for twin in (JITTOR, PYTORCH))
    jittor.sort(key=lambda x: np.inf if np.isnan(x).any() else x.max())
    ours, band = jittor[len(jittor) // 2], np.max(pytorch, axis=0)
    ours, band = (Error(root_mean_square(x), float(x.max()), float(x.mean()), float(x.max())) for x in (ours, band))
    return Item("free-running loss", within(ours.worst, band.worst, "free-running floor"), (len(truth),), ours, band,
                ours.rms / band.rms if band.rms else None,
                note=f"{ours.worst:.1e} from float64 at most, in the median of {len(jittor)} runs; {len(pytorch)} runs "
                     f"of PyTorch {band.worst:.1e}")
