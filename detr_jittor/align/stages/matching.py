"""Stage 5: the same queries for the same objects, in every decoder layer.

Where an assignment differs from float64's, its price decides: what it costs more, in float64, than the best one. Below
the error of the costs themselves it is a near-tie, which no float32 computation could tell apart; all else fails.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from detr_jittor.align.measure import Item, compare
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.forward import oracle_item
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.reference.matching import matching_cost


def run(trial: Trial) -> Stage:
    jittor, pytorch, truth = (trial.once("cost None", name, "matching_cost", trial.batch, None)
                              for name in (JITTOR, PYTORCH, FLOAT64))  # [L, B, Q, ΣT]
    items, near_ties, gaps = [], 0, []
    for layer in range(len(truth)):
        items.append(compare(f"layer {layer}: cost", jittor[layer], pytorch[layer], truth[layer]))
        if not items[-1].passed:  # of a wrong cost, or one that is not finite, the assignment says nothing more
            continue
        for picture, columns in enumerate(columns_of(trial.sizes)):
            item = assignment_item(f"layer {layer}, picture {picture}: assignment",
                                   *(cost[layer, picture][:, columns] for cost in (jittor, truth)))
            near_ties += item.note.startswith("near-tie")
            gaps.append(second_best_gap(truth[layer, picture][:, columns]))
            items.append(item)
    items.append(oracle(trial, truth))
    remarks = [f"{len(gaps)} assignments, {near_ties} of them near-ties",
               f"the second-best assignment costs {min(gaps, default=np.nan):.1e} more at least, {np.median(gaps):.1e} "
               "in the median"]
    return Stage("matching", items, remarks)


def columns_of(sizes: list[int]) -> list[slice]:
    """Where each picture's objects stand among the objects of the batch."""
    ends = np.cumsum(sizes)
    return [slice(end - size, end) for size, end in zip(sizes, ends)]


def assignment_item(name: str, found: np.ndarray, truth: np.ndarray) -> Item:
    """The assignment that one cost [Q, T] gives, priced by the true cost [Q, T]."""
    queries, objects = linear_sum_assignment(found)
    best_queries, best_objects = linear_sum_assignment(truth)
    if np.array_equal(queries, best_queries) and np.array_equal(objects, best_objects):
        return Item(name, True, (len(objects),), note="equal")
    price = float(truth[queries, objects].sum() - truth[best_queries, best_objects].sum())
    noise = tolerance("near-tie") * max(1.0, float(np.abs(truth).max())) * len(objects)
    gap = f"costs {price:.1e} more than the best; the second-best costs {second_best_gap(truth):.1e} more"
    if price <= noise:
        return Item(name, True, (len(objects),), note=f"near-tie: {gap}")
    return Item(name, False, (len(objects),), note=gap)


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
    wanted = [matching_cost(modules["logits"][-1, i], modules["boxes"][-1, i], target.labels, target.boxes,
                            loss.set_cost_class, loss.set_cost_bbox, loss.set_cost_giou)
              for i, target in enumerate(trial.batch.targets)]
    found = [truth[-1, i][:, columns] for i, columns in enumerate(columns_of(trial.sizes))]
    return oracle_item("cost of the last layer", np.concatenate([f.ravel() for f in found]),
                       np.concatenate([w.ravel() for w in wanted]))
