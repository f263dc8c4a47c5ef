"""Other numbers of threads: outputs and gradients are held against float64 as ever, two runs with the same number must
give the same bits, and how far other numbers lead away from those of one thread is told."""

import numpy as np

from detr_jittor.align.conditions.tensors import Tensors, against_float64, tensors, tensors_once
from detr_jittor.align.measure import Item, error_of, exact, root_mean_square
from detr_jittor.align.stage import Stage
from detr_jittor.align.trial import PYTORCH, Trial
from detr_jittor.align.witness import Role

COUNTS = (1, 2, 3, 4, 8, 16)


def run(trial: Trial) -> Stage:
    pytorch = tensors_once(trial, PYTORCH)
    items, first = [], None
    for count in COUNTS:
        name = f"jittor, {count} thread{'s' * (count > 1)}"
        trial.start(name, role=Role(name, "jittor", threads=count))
        found, again = tensors(trial, name), tensors(trial, name)
        trial.stop(name)
        first = first or found
        items += against_float64(trial, found, pytorch, f"{name}: ")
        for mine, repeated in zip(found.parts, again.parts):
            differing = [path for path, value in mine.items() if not same(value, repeated[path])]
            items.append(exact(f"{name}: {len(mine)} tensors again, those that differ", differing, []))
        items.append(away(name, found, first))
    return Stage("threads", items, [f"{', '.join(map(str, COUNTS))} threads, each in a process of its own"])


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.tobytes()


def away(name: str, found: Tensors, first: Tensors) -> Item:
    """How far a number of threads leads away from one thread; no verdict, which is that against float64."""
    worst, where = 0.0, "nowhere"
    for mine, ones in zip(found.parts, first.parts):
        for path, value in mine.items():
            error = error_of(value, ones[path].astype(np.float64), root_mean_square(ones[path])).rms
            if error > worst:
                worst, where = error, path
    return Item(f"{name}: away from one thread", True, note=f"at most {worst:.1e}, {where}")
