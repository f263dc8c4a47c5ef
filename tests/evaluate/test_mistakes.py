"""What went wrong: every kind by hand, the thresholds by trying all, the confusion matrix against supervision's."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from test_coco_ap import CATEGORIES, random_set, truth_of

from detr_jittor.evaluate import mistakes
from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.evaluate.mistakes import KINDS, Mistakes
from detr_jittor.types import Detections

CAT, DOG, KITE = 0, 1, 2  # labels of the categories 3, 9 and 70000, in the order of their ids


def mistakes_of(index, found: list[Detections], sample: int = 0) -> Mistakes:
    evaluator = CocoEvaluator(index)
    evaluator.add(found)
    evaluator.summarize()
    return evaluator.mistakes(sample)


def said(image_id: int, *rows: tuple) -> Detections:
    """rows: (label, score, [x, y, w, h])"""
    boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(image_id, np.array([row[1] for row in rows], np.float32),
                      np.array([row[0] for row in rows], np.int64), boxes)


BOX, OTHER, FAR = [10, 10, 40, 40], [100, 100, 40, 40], [200, 200, 40, 40]
HALF = [40, 10, 40, 40]  # shares a seventh with BOX
EVERY_KIND = [
    ("right", [(CAT, .9, BOX)], {"right": 1}, {(CAT, CAT): 1}),
    ("missed", [], {"missed": 1}, {(CAT, 3): 1}),
    ("doubled", [(CAT, .9, BOX), (CAT, .8, [12, 10, 40, 40])], {"right": 1, "doubled": 1},
     {(CAT, CAT): 1, (3, CAT): 1}),
    ("wrong class", [(DOG, .9, BOX)], {"wrong class": 1}, {(CAT, DOG): 1}),
    ("a second name", [(CAT, .9, BOX), (DOG, .8, BOX)], {"right": 1, "wrong class": 1}, {(CAT, CAT): 1, (3, DOG): 1}),
    ("badly placed", [(CAT, .9, HALF)], {"badly placed": 1}, {(CAT, 3): 1, (3, CAT): 1}),
    ("invented", [(CAT, .9, FAR)], {"invented": 1, "missed": 1}, {(CAT, 3): 1, (3, CAT): 1}),
    ("another's place", [(DOG, .9, HALF)], {"invented": 1, "missed": 1}, {(CAT, 3): 1, (3, DOG): 1}),
]


@pytest.mark.parametrize("rows, wanted, matrix", [case[1:] for case in EVERY_KIND], ids=[c[0] for c in EVERY_KIND])
def test_each_kind(rows, wanted, matrix):
    """A cat, and what is said."""
    index = truth_of([(1, 3, BOX, 0)])
    counts, confusion = np.zeros((3, 7), np.int64), np.zeros((4, 4), np.int64)
    found = [{"category_id": label + 1, "score": score, "bbox": box} for label, score, box in rows]
    truth = [{**index.truth["annotations"][0], "category_id": CAT + 1}]
    judged = mistakes.judge(1, truth, found, confusion, counts)
    assert {KINDS[k]: n for k, n in enumerate(counts.sum(axis=0)) if n} == wanted
    assert {(int(r), int(c)): int(confusion[r, c]) for r, c in np.argwhere(confusion)} == matrix
    assert judged.mistakes == sum(n for kind, n in wanted.items() if kind != "right")


def test_a_crowd_is_no_mistake():
    index = truth_of([(1, 3, [0, 0, 200, 200], 1), (1, 9, FAR, 0)])
    found = mistakes_of(index, [said(1, (CAT, .9, BOX), (DOG, .9, FAR))])
    assert found.to_json()["mistakes"] == {"right": 1, "missed": 0, "doubled": 0, "wrong class": 0, "badly placed": 0,
                                           "invented": 0}
    assert found.confusion.sum() == 1 and not found.worst


def matches(evaluator: CocoEvaluator) -> tuple[dict[int, int], list[dict]]:
    """({detection: annotation} at an intersection over union of one half by pycocotools, the detections)"""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = evaluator.truth.dataset
        truth.createIndex()
        found = truth.loadRes([record for records in evaluator.results.values() for record in records])
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
    pairs = [pair for e in evaluation.evalImgs if e for pair in zip(e["dtIds"], e["dtMatches"][0])]
    return {int(d): int(a) for d, a in pairs if a}, list(found.anns.values())


def f1(scores, right, objects, threshold) -> float:
    taken = scores >= threshold
    return 2 * (right & taken).sum() / max(taken.sum() + objects, 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_is_the_best_of_all(seed):
    """With pycocotools' matches, and all thresholds tried one by one."""
    index, answers = random_set(seed)
    evaluator = CocoEvaluator(index)
    evaluator.add(answers)
    evaluator.summarize()
    made, (match, found) = evaluator.mistakes(), matches(evaluator)
    crowd = {a["id"] for a in evaluator.truth.dataset["annotations"] if a["iscrowd"]}
    assert sum(c.best[0] > 0 for c in made.classes) >= 2
    for k, of_class in enumerate(made.classes, 1):
        mine = [d for d in found if d["category_id"] == k and match.get(d["id"]) not in crowd]
        scores, right = np.array([d["score"] for d in mine]), np.array([d["id"] in match for d in mine])
        best = max(f1(scores, right, of_class.objects, s) for s in scores)
        assert f1(scores, right, of_class.objects, of_class.threshold) == pytest.approx(best)
        taken = scores >= of_class.threshold
        assert of_class.best == pytest.approx((best, right[taken].mean(), right[taken].sum() / of_class.objects))
        assert np.allclose(of_class.f1, [f1(scores, right, of_class.objects, s) for s in mistakes.GRID])
        counts = made.counts[k - 1]
        assert counts[mistakes.RIGHT] == right[taken].sum()
        assert counts[[mistakes.DOUBLED, mistakes.WRONG_CLASS, mistakes.BADLY_PLACED, mistakes.INVENTED]].sum() == (
            taken.sum() - right[taken].sum())


def test_the_confusion_matrix_is_supervisions():
    import supervision as sv

    for seed in range(6):
        index, found = random_set(seed)
        index.truth["annotations"] = [a for a in index.truth["annotations"] if not a["iscrowd"]]
        made = mistakes_of(index, found)
        least = np.array([c.threshold for c in made.classes])
        label_of = index.classes.label_of()
        truth, answers = [], []
        for image, of_picture in zip(index.truth["images"], sorted(found, key=lambda d: d.image_id)):
            rows = [a for a in index.truth["annotations"] if a["image_id"] == image["id"]]
            boxes = np.array([a["bbox"] for a in rows], float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = np.array([label_of[a["category_id"]] for a in rows], int)
            truth.append(sv.Detections(boxes, class_id=labels))
            kept = of_picture.rows(of_picture.scores >= least[of_picture.labels])
            answers.append(sv.Detections(kept.boxes.astype(float), confidence=kept.scores, class_id=kept.labels))
        theirs = sv.ConfusionMatrix.from_detections(
            answers, truth, [c["name"] for c in CATEGORIES], conf_threshold=0.0, iou_threshold=0.5).matrix
        assert made.confusion.sum() > 20
        assert np.array_equal(made.confusion, theirs), (made.confusion, theirs)


def test_what_is_written_is_json_and_adds_up():
    index, found = random_set(1)
    made = mistakes_of(index, found, sample=3)
    told = made.to_json()
    assert json.loads(json.dumps(told)) == told
    objects = sum(not a["iscrowd"] for a in index.truth["annotations"])
    assert made.confusion[:-1].sum() == objects == sum(c["objects"] for c in told["classes"])
    assert made.thresholds == {c.label: c.threshold for c in made.classes}
    assert all(0 < t < 1 for t in made.thresholds.values())
    assert [j.mistakes for j in made.worst] == sorted((j.mistakes for j in made.worst), reverse=True)
    assert len(made.sample) == 3 and made.sample[0].image_id == 1


def test_a_class_without_objects_has_the_threshold_of_all():
    found = mistakes_of(truth_of([(1, 3, BOX, 0)]), [said(1, (CAT, .8, BOX), (CAT, .2, FAR), (DOG, .9, OTHER))])
    cat, dog, kite = found.classes
    assert cat.threshold == pytest.approx(0.5) and dog.threshold == kite.threshold == found.threshold
    assert kite.ap == (-1,) * 4 and dog.best == (0, 0, 0)


def test_nothing_found_and_nothing_there():
    empty = mistakes_of(truth_of([(1, 3, BOX, 0)]), [])
    assert empty.to_json()["mistakes"]["missed"] == 1 and empty.threshold == 0.5
    assert mistakes_of(truth_of([]), [said(1, (CAT, .8, BOX))]).to_json()["mistakes"]["invented"] == 1


@pytest.mark.parametrize("wrong, recall", [(99, 1.0), (100, 0.0), (140, 0.0)])
def test_more_than_a_hundred_of_a_class_in_a_picture(wrong, recall):
    """As many as a DETR with more queries finds at first. COCO looks at the hundred best; the right one comes last."""
    index = truth_of([(1, 3, BOX, 0), (2, 9, BOX, 0)], images=2)
    rows = [(CAT, 0.9 - n / 1000, FAR) for n in range(wrong)]
    found = mistakes_of(index, [said(1, *rows, (CAT, .1, BOX)), said(2, *rows, (DOG, .9, BOX))])
    assert found.classes[CAT].best[2] == recall and found.classes[CAT].ap[0] == pytest.approx(recall * 0.005, rel=0.02)
    assert found.classes[DOG].best[2] == 1
