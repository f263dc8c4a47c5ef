"""Stage 6: every loss term of every decoder layer, with the assignment held equal."""

import numpy as np

from detr_jittor.align.measure import Item, compare
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages.forward import oracle_item
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.reference import losses as ref
from detr_jittor.reference.boxes import corners, iou


def run(trial: Trial) -> Stage:
    indices = trial.assignment()
    jittor = trial.ask(JITTOR, "losses", trial.batch, indices)
    pytorch, truth = (trial.once("losses", name, "losses", trial.batch, indices) for name in (PYTORCH, FLOAT64))
    if jittor.keys() != truth.keys():
        return Stage("losses", [Item("names", False, note=f"differ: {sorted(jittor.keys() ^ truth.keys())}")])
    items = [compare(name, jittor[name], pytorch[name], truth[name]) for name in truth]
    return Stage("losses", items + oracle_items(trial, truth))


def oracle_items(trial: Trial, truth: dict[str, float]) -> list[Item]:
    """The terms of the last layer against the NumPy oracle, from float64's logits and boxes."""
    modules = trial.once("modules", FLOAT64, "modules", trial.batch)
    logits, boxes = modules["logits"][-1], modules["boxes"][-1]
    each, assignment, targets = trial.config.model.has_focal, trial.assignment()[-1], trial.batch.targets
    labels = [t.labels for t in targets]
    classes = ref.target_classes(labels, assignment, logits.shape[1], trial.config.model.num_classes)
    divisor = ref.num_boxes(labels)
    matched = np.concatenate([boxes[i][a.queries] for i, a in enumerate(assignment)])
    wanted = np.concatenate([t.boxes[a.objects] for t, a in zip(targets, assignment)])
    rows = np.concatenate([logits[i][a.queries] for i, a in enumerate(assignment)])
    of_rows = np.concatenate([classes[i][a.queries] for i, a in enumerate(assignment)])
    terms = {
        "loss_ce": class_loss(trial, logits, boxes, classes, assignment, divisor),
        "loss_bbox": ref.box_l1(matched, wanted, divisor), "loss_giou": ref.box_giou(matched, wanted, divisor),
        "class_error": ref.class_error(rows, of_rows),
        "cardinality_error": (ref.focal_cardinality_error if each else ref.cardinality_error)(logits, trial.sizes),
    }
    return [oracle_item(name, np.array(truth[name]), np.array(term)) for name, term in terms.items()]


def class_loss(trial: Trial, logits: np.ndarray, boxes: np.ndarray, classes: np.ndarray, assignment: list,
               divisor: float) -> float:
    """Args: as the oracle's: logits [B, Q, C or C + 1], boxes [B, Q, 4], classes [B, Q]."""
    loss = trial.config.loss
    if not trial.config.model.has_focal:
        return ref.cross_entropy(logits, classes, loss.eos_coef)
    if loss.class_loss == "quality":
        return ref.quality_classes(logits, classes, qualities(boxes, trial.batch.targets, assignment), divisor)
    return ref.focal_classes(logits, classes, divisor, loss.focal_alpha)


def qualities(boxes: np.ndarray, targets: list, assignment: list) -> np.ndarray:
    """IoU of each query's box [B, Q, 4] with that of its object, 0 without one → [B, Q]"""
    found = np.zeros(boxes.shape[:2])
    for picture, (own, target, pairs) in enumerate(zip(boxes, targets, assignment)):
        overlap = iou(corners(own), corners(target.boxes))  # [Q, T]
        found[picture, pairs.queries] = overlap[pairs.queries, pairs.objects]
    return found
