"""Stage 5: the same queries for the same objects, in every decoder layer.

Where an assignment differs from float64's, its price decides: what it costs more, in float64, than the best one. Below
the error of the costs themselves it is a near-tie, which no float32 computation could tell apart; all else fails.
"""

from functools import partial

import numpy as np
from scipy.optimize import linear_sum_assignment

from detr_jittor.align.measure import Item, compare, exact
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.forward import oracle_item
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.reference.matching import focal_matching_cost, matching_cost
from detr_jittor.types import Assignment


def run(trial: Trial) -> Stage:
    (jittor, indices), (pytorch, _), (truth, best) = (
        trial.once("matching None", name, "matching", trial.batch, None) for name in (JITTOR, PYTORCH, FLOAT64))
    items = [compare(f"layer {layer}: cost", jittor[layer], pytorch[layer], truth[layer])
             for layer in range(len(truth))]  # [L, B, Q, ΣT]
    first, gaps = len(truth) - len(best), []
    for layer, pictures in enumerate(indices, first):
        for picture, columns in enumerate(columns_of(trial.sizes)):
            cost = truth[layer, picture][:, columns]
            items.append(assignment_item(f"layer {layer}, picture {picture}: assignment", pictures[picture], cost))
            gaps.append(second_best_gap(cost))
    items += [exact("layers matched", len(indices), len(best)), oracle(trial, truth)]
    near_ties = sum(item.note.startswith("near-tie") for item in items)
    remarks = [f"{len(gaps)} assignments, {near_ties} of them near-ties",
               f"the second-best assignment costs {min(gaps, default=np.nan):.1e} more at least, {np.median(gaps):.1e} "
               "in the median"]
    return Stage("matching", items, remarks)


def columns_of(sizes: list[int]) -> list[slice]:
    """Where each picture's objects stand among the objects of the batch."""
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends)]


def assignment_item(name: str, found: Assignment, truth: np.ndarray) -> Item:
    """An assignment, priced by the true cost [Q, T]."""
    pairs, best = set(zip(found.queries.tolist(), found.objects.tolist())), set(zip(*linear_sum_assignment(truth)))
    if pairs == best:
        return Item(name, True, (len(best),), note="equal")
    if not len(found.queries) == len(set(found.queries)) == len(set(found.objects)) == len(best):
        return Item(name, False, (len(best),), note="not one to one")
    price = sum(truth[pair] for pair in pairs) - sum(truth[pair] for pair in best)
    noise = tolerance("near-tie") * max(1.0, float(np.abs(truth).max())) * len(best)
    note = f"costs {price:.1e} more than the best; the second-best costs {second_best_gap(truth):.1e} more"
    return Item(name, bool(price <= noise), (len(best),), note=f"near-tie: {note}" if price <= noise else note)


def second_best_gap(cost: np.ndarray) -> float:
    """How much more the second-best assignment costs [Q, T]: the best one that avoids some pair of the best."""
    queries, objects = linear_sum_assignment(cost)
    best = cost[queries, objects].sum()
    gaps = []
    for query, thing in zip(queries, objects):
        without = cost.copy()
        without[query, thing] = 1e6  # beyond any cost, but finite for the solver
        rows, columns = linear_sum_assignment(without)
        gaps.append(without[rows, columns].sum() - best)
    return float(min(gaps, default=np.inf))


def oracle(trial: Trial, truth: np.ndarray) -> Item:
    """The last layer's float64 cost against the oracle's, from the same logits and boxes."""
    modules = trial.once("modules", FLOAT64, "modules", trial.batch)
    loss = trial.config.loss
    each = trial.config.model.has_focal
    cost = partial(focal_matching_cost, alpha=loss.focal_alpha) if each else matching_cost
    of_class = loss.set_cost_focal if each else loss.set_cost_class
    wanted = [cost(modules["logits"][-1, i], modules["boxes"][-1, i], target.labels, target.boxes, of_class,
                   loss.set_cost_bbox, loss.set_cost_giou) for i, target in enumerate(trial.batch.targets)]
    found = [truth[-1, i][:, columns] for i, columns in enumerate(columns_of(trial.sizes))]
    return oracle_item("cost of the last layer", np.concatenate([f.ravel() for f in found]),
                       np.concatenate([w.ravel() for w in wanted]))
