"""Other numbers of threads: outputs and gradients are held against float64 as ever, two runs with the same number must
give the same bits, and how far other numbers lead away from those of one thread is told."""

import numpy as np

from detr_jittor.align.measure import Item, compare, error_of, exact, root_mean_square
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.gradients import scales, truth
from detr_jittor.align.trial import FLOAT64, PYTORCH, Trial
from detr_jittor.align.witness import Role

COUNTS = (1, 2, 3, 4, 8, 16)


def run(trial: Trial) -> Stage:
    items, first = [], {}
    for count in COUNTS:
        name = f"jittor, {count} thread{'s' * (count > 1)}"
        trial.start(name, role=Role(name, "jittor", threads=count))
        found = tensors(trial, name)
        again = tensors(trial, name)
        trial.stop(name)
        first = first or found
        items += against_float64(trial, name, *found)
        for mine, repeated in zip(found, again):
            differing = [path for path, value in flat(mine).items() if not same(value, flat(repeated)[path])]
            items.append(exact(f"{name}: {len(flat(mine))} tensors again, those that differ", differing, []))
        items.append(away(name, found, first))
    return Stage("threads", items, [f"{', '.join(map(str, COUNTS))} threads, each in a process of its own"])


def tensors(trial: Trial, name: str) -> tuple:
    """(every module's output, gradients)"""
    args = trial.batch, trial.assignment(trial.seed), trial.seed
    return trial.ask(name, "modules", trial.batch), trial.ask(name, "gradients", *args)


def flat(tensors) -> dict[str, np.ndarray]:
    return tensors if isinstance(tensors, dict) else tensors.of


def against_float64(trial: Trial, name: str, outputs: dict[str, np.ndarray], gradients) -> list[Item]:
    """The tensors of a twin, and PyTorch's with all threads, as the stages "forward" and "gradients" compare them."""
    pytorch, true = (trial.once("modules", who, "modules", trial.batch) for who in (PYTORCH, FLOAT64))
    items = [compare(f"{name}: {path}", outputs[path], pytorch[path], true[path]) for path in true if path in outputs]
    args = trial.batch, trial.assignment(trial.seed), trial.seed
    pytorch = trial.once("gradients", PYTORCH, "gradients", *args)
    true, of_pytorch = (truth(trial, args, found.kinks.sides) for found in (gradients, pytorch))
    return items + [compare(f"{name}: gradient of {path}", gradients.of[path], pytorch.of[path], true.of[path], scale,
                            pytorch_truth=of_pytorch.of[path]) for path, scale in scales(true.of).items()]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def away(name: str, found: tuple, first: tuple) -> Item:
    """How far a number of threads leads away from one thread; no verdict, which is that against float64."""
    worst, where = 0.0, "nowhere"
    for mine, ones in zip(map(flat, found), map(flat, first)):
        for path, value in mine.items():
            error = error_of(value, ones[path].astype(np.float64), root_mean_square(ones[path])).rms
            if error > worst:
                worst, where = error, path
    return Item(f"{name}: away from one thread", True, note=f"at most {worst:.1e}, {where}")
