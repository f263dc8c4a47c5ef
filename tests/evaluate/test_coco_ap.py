"""The evaluator against pycocotools, on random sets with crowds, and its behaviour at the edges."""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.types import Classes, Detections

SIZE = 300
CATEGORIES = [{"id": 70000, "name": "kite"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]


@dataclass
class Index:
    """The part of a CocoIndex that the evaluator sees."""

    truth: dict

    @property
    def classes(self) -> Classes:
        return Classes.of_categories(self.truth["categories"])

    def ground_truth(self) -> dict:
        return self.truth


def truth_of(objects: list[tuple], images: int = 1, categories: list = CATEGORIES) -> Index:
    """A dataset of (image id, category id, [x, y, w, h], iscrowd) objects."""
    annotations = [{"id": i, "image_id": image, "category_id": category, "bbox": [float(v) for v in box],
                    "area": float(box[2] * box[3]), "iscrowd": crowd,
                    "segmentation": rle_of(box)}
                   for i, (image, category, box, crowd) in enumerate(objects, start=1)]
    return Index({"images": [{"id": i + 1, "width": SIZE, "height": SIZE} for i in range(images)],
                  "annotations": annotations, "categories": categories})


def mask_of(box) -> np.ndarray:
    x, y, w, h = (round(v) for v in box)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[max(y, 0):y + h, max(x, 0):x + w] = 1
    return mask


def rle_of(box) -> dict:
    encoded = rle.encode(np.asfortranarray(mask_of(box)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def random_set(seed: int, masks: bool = False) -> tuple[Index, list[Detections]]:
    """Objects of every size and their detections: some exact, some shifted, some false, many scores equal."""
    random = np.random.default_rng(seed)
    ids = [c["id"] for c in CATEGORIES]
    objects = []
    for image in range(1, 13):
        for _ in range(random.integers(0, 7)):
            w, h = np.exp(random.uniform(1, 5.2, 2))
            x, y = random.uniform(0, SIZE - w), random.uniform(0, SIZE - h)
            objects.append((image, random.choice(ids).item(), [x, y, w, h], int(random.random() < 0.2)))
    index = truth_of(objects, images=12)
    label_of = index.classes.label_of()
    found = []
    for image in range(1, 13):
        boxes, labels = [], []
        for _, category, box, _ in (o for o in objects if o[0] == image):
            for _ in range(random.integers(0, 4)):
                boxes.append(np.array(box) + random.normal(0, random.choice([0, 1, 8]), 4))
                labels.append(label_of[category] if random.random() < 0.9 else random.integers(0, 3))
        for _ in range(random.integers(0, 120)):  # more than 100 a picture at times
            boxes.append(random.uniform(1, 100, 4))
            labels.append(random.integers(0, 3))
        boxes = np.abs(np.array(boxes, np.float32).reshape(-1, 4)) + 1
        scores = random.random(len(boxes), np.float32).round(1)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        pictures = np.array([mask_of(box) for box in boxes], bool).reshape(-1, SIZE, SIZE) if masks else None
        found.append(Detections(image, scores, np.array(labels, np.int64), corners, pictures))
    return index, found


def pycocotools(index: Index, found: list[Detections], iou_type: str) -> tuple[COCOeval, str]:
    category_of = index.classes.category_of()
    records = []
    for d in found:
        for i in range(len(d.scores)):
            record = {"image_id": d.image_id, "category_id": category_of[d.labels[i]], "score": float(d.scores[i])}
            if iou_type == "segm":
                record["segmentation"] = rle.encode(np.asfortranarray(d.masks[i], np.uint8))
            else:
                record["bbox"] = [*d.boxes[i, :2].tolist(), *(v.item() for v in d.boxes[i, 2:] - d.boxes[i, :2])]
            records.append(record)
    truth = COCO()
    truth.dataset = index.truth
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(records), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        evaluation.summarize()
    return evaluation, printed.getvalue()


@pytest.mark.parametrize("iou_type, seeds", [("bbox", range(6)), ("segm", range(2))])
def test_all_numbers_equal_pycocotools(iou_type, seeds, capfd):
    for seed in seeds:
        index, found = random_set(seed, masks=iou_type == "segm")
        evaluator = CocoEvaluator(index, iou_type)
        evaluator.add(found[:5])
        evaluator.add(found[5:])
        summary = evaluator.summarize()
        assert capfd.readouterr() == ("", "")  # the library says nothing of its own

        theirs, printed = pycocotools(index, found, iou_type)
        assert len(summary.stats) == 12 and len(set(summary.stats)) > 8
        np.testing.assert_allclose(summary.stats, theirs.stats, atol=1e-12, rtol=0)
        assert summary.table() == printed.rstrip("\n")
        for k, of_class in enumerate(summary.classes):
            precision = theirs.eval["precision"][:, :, k, 0, 2]
            assert of_class.category_id == theirs.params.catIds[k]
            assert of_class.ap == pytest.approx(precision.mean(), abs=1e-12)
            assert of_class.ap50 == pytest.approx(precision[0].mean(), abs=1e-12)


def one(image, label, box, score=0.9) -> Detections:
    return Detections(image, np.array([score], np.float32), np.array([label]), np.array([box], np.float32))


def summary_of(index: Index, found: list[Detections]):
    evaluator = CocoEvaluator(index)
    evaluator.add(found)
    return evaluator.summarize()


def test_nothing_found_is_zero():
    index = truth_of([(1, 3, [10, 10, 50, 50], 0)])
    nothing = Detections(1, np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    assert summary_of(index, []).ap == summary_of(index, [nothing]).ap == 0


def test_a_dataset_without_objects_has_no_ap():
    summary = summary_of(truth_of([]), [one(1, 0, [0, 0, 9, 9])])
    assert summary.stats == [-1] * 12
    assert summary.line(3) == "[val] epoch=  3 AP=- | AP50=- | AP75=-"
    assert summary.to_json()["AP"] is None


def test_a_class_without_objects_is_left_out_of_the_mean():
    index = truth_of([(1, 3, [10, 10, 50, 50], 0)])
    summary = summary_of(index, [one(1, index.classes.label_of()[3], [10, 10, 60, 60])])
    assert summary.ap == pytest.approx(1)
    assert {c.name: c.ap for c in summary.classes} == {"cat": pytest.approx(1), "dog": -1, "kite": -1}
    assert [line.split() for line in summary.class_table().splitlines()] == [
        ["class", "objects", "AP", "AP50"], ["cat", "1", "1.0000", "1.0000"], ["dog", "0", "-", "-"],
        ["kite", "0", "-", "-"]]


def test_a_picture_without_annotations_counts_its_false_detections():
    index = truth_of([(1, 3, [10, 10, 50, 50], 0)], images=2)
    right = one(1, 0, [10, 10, 60, 60], score=0.5)
    assert summary_of(index, [right]).ap == pytest.approx(1)
    assert summary_of(index, [right, one(2, 0, [0, 0, 9, 9], score=0.9)]).ap == pytest.approx(0.5)


def test_a_picture_that_is_added_twice_counts_once():
    index = truth_of([(1, 3, [10, 10, 50, 50], 0), (1, 3, [100, 100, 50, 50], 0)])
    found = Detections(1, np.array([0.9, 0.5], np.float32), np.array([0, 0]),
                       np.array([[10, 10, 60, 60], [100, 100, 150, 150]], np.float32))
    assert summary_of(index, [found, found]).ap == pytest.approx(1)


def test_crowds_neither_help_nor_harm():
    index = truth_of([(1, 3, [10, 10, 50, 50], 0), (1, 3, [100, 100, 100, 100], 1)])
    found = Detections(1, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 0, 0]),
                       np.array([[120, 120, 150, 150], [110, 110, 140, 150], [10, 10, 60, 60]], np.float32))
    summary = summary_of(index, [found])
    assert summary.ap == pytest.approx(1)
    assert summary.classes[0].objects == 1


def test_labels_without_a_category_are_left_out():
    index = truth_of([(1, 3, [10, 10, 50, 50], 0)], categories=[{"id": 3, "name": "cat"}])
    found = Detections(1, np.array([0.9, 0.8], np.float32), np.array([1, 3]),  # label 1 stands for nothing
                       np.array([[10, 10, 60, 60]] * 2, np.float32))
    assert summary_of(index, [found]).ap == pytest.approx(1)
