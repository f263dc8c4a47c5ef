"""A picture by itself and among others of the same padded size: its outputs must not depend on its neighbours."""

from dataclasses import replace

import numpy as np

from detr_jittor.align.measure import compare, error_of, root_mean_square
from detr_jittor.align.stage import Stage
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial


def run(trial: Trial) -> Stage:
    """Each picture alone, held against float64's answer for the whole batch."""
    among = {name: trial.ask(name, "predict", trial.batch) for name in (JITTOR, PYTORCH, FLOAT64)}
    items = []
    for place in range(len(trial.batch)):
        batch = replace(trial.batch, images=trial.batch.images[place:place + 1],
                        mask=trial.batch.mask[place:place + 1], targets=trial.batch.targets[place:place + 1])
        alone = {name: trial.ask(name, "predict", batch) for name in (JITTOR, PYTORCH)}
        for kind in ("logits", "boxes"):
            jittor, pytorch = (getattr(alone[name], kind)[0] for name in (JITTOR, PYTORCH))
            item = compare(f"picture {place}: {kind}", jittor, pytorch, getattr(among[FLOAT64], kind)[place])
            items.append(replace(item, note=item.note or told(jittor, getattr(among[JITTOR], kind)[place])))
    return Stage("alone", items, ["each picture of the batch alone, in the same padding, against float64 among others"])


def told(alone: np.ndarray, among: np.ndarray) -> str:
    if (alone == among).all():
        return "the same bits as among others"
    error = error_of(alone, among.astype(np.float64), root_mean_square(among)).worst
    return f"{np.count_nonzero(alone != among)} of {alone.size} differ from those among others, at most {error:.1e}"
