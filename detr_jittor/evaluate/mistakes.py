"""What a model gets wrong, by class and by kind, from what COCO's evaluation has matched already.

K classes, T true objects and N detections of a picture, R places of recall. A detection is right where it has the class
of an object and an intersection over union of at least one half with it, as in AP50.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from detr_jittor.evaluate.summary import mean
from detr_jittor.twin import boxes as box

RIGHT, MISSED, DOUBLED, WRONG_CLASS, BADLY_PLACED, INVENTED, IGNORED = range(7)
KINDS = ("right", "missed", "doubled", "wrong class", "badly placed", "invented", "ignored")
MISTAKES = (MISSED, DOUBLED, WRONG_CLASS, BADLY_PLACED, INVENTED)
ENOUGH, NEAR = 0.5, 0.1  # intersection over union of what is placed well, and of what is placed badly but there
WORST = 12  # pictures that are kept
GRID = np.linspace(0, 1, 101)  # recalls and scores at which curves are drawn


@dataclass(frozen=True)
class ClassCurves:
    """How well one class is found, at an intersection over union of one half."""

    label: int
    name: str
    objects: int  # in the ground truth, without crowds
    precision: np.ndarray  # [R] at the recalls GRID, as COCO interpolates it; −1 where there is no object
    f1: np.ndarray  # [R] at the scores GRID, from which a detection counts
    threshold: float  # the score from which F1 is best; of a class without any right detection, that of all together
    best: tuple[float, float, float]  # F1, precision and recall there
    ap: tuple[float, float, float, float]  # of all, small, medium and large objects; −1 where there is none


@dataclass(frozen=True)
class Judged:
    """A picture, the objects in it and what was said of them; boxes are (x1, y1, x2, y2) in pixels."""

    image_id: int
    objects: np.ndarray  # [T, 4]
    object_labels: np.ndarray  # [T]
    object_kinds: np.ndarray  # [T] RIGHT, or what went wrong: MISSED, WRONG_CLASS, BADLY_PLACED; IGNORED of a crowd
    boxes: np.ndarray  # [N, 4] the best first
    labels: np.ndarray  # [N]
    scores: np.ndarray  # [N]
    kinds: np.ndarray  # [N] but MISSED

    @property
    def mistakes(self) -> int:
        return int((self.object_kinds == MISSED).sum() + np.isin(self.kinds, MISTAKES).sum())


@dataclass(frozen=True)
class Mistakes:
    """All that went wrong over a split. Counts are of the detections from their class's own threshold on."""

    classes: list[ClassCurves]
    threshold: float  # from which F1 is best where all classes have the same
    confusion: np.ndarray  # [K + 1, K + 1] int: objects of a row's class that are called a column's; last: background
    counts: np.ndarray  # [K, 7] int, by class and kind: of MISSED the objects' class, of all others the detections'
    worst: list[Judged]  # those with most mistakes first
    sample: list[Judged]  # pictures from all over the split, always the same ones

    @property
    def thresholds(self) -> dict[int, float]:
        """{label: the score from which F1 is best}"""
        return {of_class.label: of_class.threshold for of_class in self.classes}

    def to_json(self) -> dict:
        """What mistakes.json holds."""
        rows = [{"name": c.name, "objects": c.objects, "threshold": round(c.threshold, 4),
                 **dict(zip(("f1", "precision", "recall"), (round(v, 4) for v in c.best))),
                 **dict(zip(("AP", "AP_small", "AP_medium", "AP_large"), (None if v < 0 else v for v in c.ap))),
                 **{KINDS[kind]: int(counts[kind]) for kind in (RIGHT, *MISTAKES)}}
                for c, counts in zip(self.classes, self.counts)]
        return {"threshold": round(self.threshold, 4),
                "mistakes": {KINDS[kind]: int(self.counts[:, kind].sum()) for kind in (RIGHT, *MISTAKES)},
                "classes": rows, "confusion": self.confusion.tolist()}


def find_mistakes(evaluation, results: dict[int, list[dict]], number_of: dict[int, int], rows: list[tuple[int, str]],
                  sample: int) -> Mistakes:
    """Everything above, from an evaluation of boxes that has run.

    Args:
        evaluation: faster-coco-eval's, whose categories are numbered from 1 as `rows`.
        results: {image id: its detections}, as `CocoEvaluator` collects them.
        number_of: {image id: its number in the evaluation}.
        rows: [K] (label, name).
        sample: how many pictures to keep for a sheet.
    """
    curves, threshold = class_curves(evaluation, rows)
    least = [c.threshold for c in curves]
    objects = defaultdict(list)
    for annotation in evaluation.cocoGt.dataset["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    confusion = np.zeros((len(rows) + 1,) * 2, np.int64)
    counts = np.zeros((len(rows), len(KINDS)), np.int64)
    labels = np.array([label for label, _ in rows])
    kept, chosen = [], set(spread(sorted(number_of), sample))
    seen = []
    for image_id, number in number_of.items():
        found = [d for d in results.get(image_id, ()) if d["score"] >= least[d["category_id"] - 1]]
        truth = objects[number]
        if not found and not truth and image_id not in chosen:
            continue
        judged = judge(image_id, truth, found, confusion, counts)
        if judged.mistakes:
            kept.append(judged)
            if len(kept) > 50 * WORST:  # not every picture of a large set
                kept = worst_of(kept)
        if image_id in chosen:
            seen.append(judged)
    return Mistakes(curves, threshold, confusion, counts, *([named(j, labels) for j in part]
                                                            for part in (worst_of(kept), seen)))


def worst_of(judged: list[Judged]) -> list[Judged]:
    return sorted(judged, key=lambda j: -j.mistakes)[:WORST]


def spread(numbers: list[int], count: int) -> list[int]:
    """So many of them, from the first to the last."""
    return [numbers[place] for place in np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)]


def named(judged: Judged, labels: np.ndarray) -> Judged:
    """With labels in place of rows."""
    return Judged(judged.image_id, judged.objects, labels[judged.object_labels], judged.object_kinds, judged.boxes,
                  labels[judged.labels], judged.scores, judged.kinds)


def class_curves(evaluation, rows: list[tuple[int, str]]) -> tuple[list[ClassCurves], float]:
    """[K] of each class, and the best threshold of all together."""
    found, truth = (part.anns.values() for part in (evaluation.cocoDt, evaluation.cocoGt))
    scores = np.array([d["score"] for d in found], np.float64)  # [all detections]
    row = np.array([d["category_id"] for d in found], np.int64) - 1
    right, counted = matched(evaluation, scores)
    objects = np.bincount([a["category_id"] - 1 for a in truth if not a.get("iscrowd", 0)], minlength=len(rows))
    together, *_ = best_threshold(scores[counted], right[counted], int(objects.sum()), 0.5)
    precision = evaluation.eval["precision"]  # [thresholds of IoU, R, K, areas, most detections]
    curves = []
    for k, (label, name) in enumerate(rows):
        mine = counted & (row == k)
        threshold, best, f1 = best_threshold(scores[mine], right[mine], int(objects[k]), together)
        ap = tuple(mean(precision[:, :, k, area, -1]) for area in range(4))
        curves.append(ClassCurves(label, name, int(objects[k]), precision[0, :, k, 0, -1], f1, threshold, best, ap))
    return curves, together


def matched(evaluation, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([all detections] bool: which are right, and which count: those on a crowd are neither right nor wrong, and of a
    class only the best hundred in a picture are looked at).

    As COCO matches at an intersection over union of one half. faster-coco-eval's own "matched" is not that: it holds
    what was matched at any of the ten thresholds, doubles among it.
    """
    found = list(evaluation.cocoDt.anns.values())
    crowds = defaultdict(list)  # (image, class) → whether each of its objects is a crowd, as its columns below
    for annotation in evaluation.cocoGt.dataset["annotations"]:
        crowds[annotation["image_id"], annotation["category_id"]].append(bool(annotation.get("iscrowd", 0)))
    places = defaultdict(list)  # → its detections, the best first, as its rows below
    for place in np.argsort(-scores, kind="stable").tolist():
        places[found[place]["image_id"], found[place]["category_id"]].append(place)
    right, counted = np.zeros(len(found), bool), np.ones(len(found), bool)
    most = evaluation.params.maxDets[-1]
    for key, rows in places.items():
        counted[rows[most:]] = False
        if key not in crowds:
            continue
        overlap, crowd = np.array(evaluation.ious[key]), np.array(crowds[key])  # [n, t]; of a crowd the box's share
        on_crowd = (overlap[:, crowd] >= ENOUGH).any(axis=1)
        overlap[:, crowd] = 0
        for n, place in enumerate(rows[:most]):
            t = int(overlap[n].argmax())
            if overlap[n, t] >= ENOUGH:
                right[place], overlap[:, t] = True, 0
            else:
                counted[place] = not on_crowd[n]
    return right, counted


def overlaps(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, 4], [T, 4] and [T] bool → [N, T] intersection over union, and [N, T] the share of each box in each crowd."""
    shared, areas = box.intersections(boxes, objects), box.area(boxes)[:, None]
    union = areas + box.area(objects)[None] - shared
    return shared / np.maximum(union, 1e-9), np.where(crowd, shared / np.maximum(areas, 1e-9), 0.0)


def best_threshold(scores: np.ndarray, right: np.ndarray, objects: int,
                   otherwise: float) -> tuple[float, tuple[float, float, float], np.ndarray]:
    """(threshold, (F1, precision, recall) there, F1 [R] at the scores GRID) of detections with these scores.

    The threshold lies in the middle between the last score that is taken and the next one.
    """
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    hits, taken = np.cumsum(right), np.arange(1, len(scores) + 1)
    f1 = 2 * hits / np.maximum(taken + objects, 1)
    above = np.searchsorted(-scores, -GRID, side="right")  # [R] how many have at least this score
    on_grid = np.append(0.0, f1)[above]
    # Equal scores are taken together: only the last of them is a place to stop
    last = np.append(scores[1:] < scores[:-1], True) if len(scores) else np.zeros(0, bool)
    if not right.any() or not objects:
        return otherwise, (0.0, 0.0, 0.0), on_grid
    k = int(np.argmax(np.where(last, f1, -1)))
    following = scores[k + 1] if k + 1 < len(scores) else 0.0
    best = float(f1[k]), float(hits[k] / taken[k]), float(hits[k] / objects)
    return float(scores[k] + following) / 2, best, on_grid


def judge(image_id: int, truth: list[dict], found: list[dict], confusion: np.ndarray, counts: np.ndarray) -> Judged:
    """What is right and wrong in a picture; it is added to both tables. Labels are rows until `named`.

    Detections are looked at in the order of their scores. Each takes the free object of its class that it overlaps
    most. Of those left over, each that overlaps a free object of another class is called by the wrong name. What then
    overlaps an object of its class is a double of it, or is badly placed; all else is invented.
    """
    found = sorted(found, key=lambda d: -d["score"])
    objects, boxes = (corners(records) for records in (truth, found))
    true, said = (np.array([record["category_id"] - 1 for record in records], np.int64) for records in (truth, found))
    crowd = np.array([bool(record.get("iscrowd", 0)) for record in truth], bool)
    overlap, in_crowd = overlaps(boxes, objects, crowd)  # [N, T]
    same = said[:, None] == true[None]  # [N, T]
    kinds, object_kinds = np.full(len(found), INVENTED), np.where(crowd, IGNORED, MISSED)
    free, alone = ~crowd, np.ones(len(found), bool)
    calls = np.full(len(truth), len(confusion) - 1)  # the row that each object is called

    def best_free(n: int, allowed: np.ndarray) -> int | None:
        choices = np.where(free & allowed[n] & (overlap[n] >= ENOUGH), overlap[n], -1.0)
        return int(choices.argmax()) if choices.size and choices.max() > 0 else None

    for kind, allowed in ((RIGHT, same), (WRONG_CLASS, ~same)):
        for n in np.flatnonzero(kinds == INVENTED):
            if (t := best_free(n, allowed)) is not None:
                kinds[n] = object_kinds[t] = kind
                free[t], alone[n], calls[t] = False, False, said[n]
    for n in np.flatnonzero(kinds == INVENTED):
        real = np.where(same[n] & ~crowd, overlap[n], 0.0)
        if (np.where(same[n], in_crowd[n], 0.0) >= ENOUGH).any():
            kinds[n], alone[n] = IGNORED, False
        elif (real >= ENOUGH).any():
            kinds[n] = DOUBLED
        elif (np.where(crowd | same[n], 0.0, overlap[n]) >= ENOUGH).any():
            kinds[n] = WRONG_CLASS  # a second name for what another detection has
        elif (real >= NEAR).any():
            kinds[n] = BADLY_PLACED
            if object_kinds[t := int(real.argmax())] == MISSED:
                object_kinds[t] = BADLY_PLACED
    np.add.at(confusion, (true[~crowd], calls[~crowd]), 1)
    np.add.at(confusion, (np.full(alone.sum(), len(confusion) - 1), said[alone]), 1)
    np.add.at(counts, (said, kinds), 1)
    missed = object_kinds == MISSED
    np.add.at(counts, (true[missed], np.full(missed.sum(), MISSED)), 1)
    scores = np.array([d["score"] for d in found], np.float64)
    return Judged(image_id, objects, true, object_kinds, boxes, said, scores, kinds)


def corners(records: list[dict]) -> np.ndarray:
    """[N, 4] (x1, y1, x2, y2)"""
    boxes = np.array([record["bbox"] for record in records], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
