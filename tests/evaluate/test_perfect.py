"""Perfect detections through the whole path, category mapping included, must score an AP of 1.

Index → targets → outputs of a model that is always right → post-processing → evaluator.
"""

import json

import numpy as np
import pytest
from PIL import Image

from detr_jittor.data.coco import CocoIndex
from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.types import Outputs, Target

CATEGORIES = {"small": [1, 2, 3], "sparse": [0, 17, 90], "huge": [5, 70_000, 2_000_000_000], "one": [0]}
SIZES = [(120, 200), (333, 97), (64, 64), (50, 80)]  # the last picture has no annotations


def write_dataset(folder, category_ids) -> CocoIndex:
    random = np.random.default_rng(1)
    annotations = []
    for image, (height, width) in enumerate(SIZES):
        Image.new("RGB", (width, height)).save(folder / f"{image}.png")
        for category in category_ids * (2 if image < 3 else 0):
            w, h = random.uniform(8, width / 2), random.uniform(8, height / 2)
            box = [random.uniform(0, width - w), random.uniform(0, height - h), w, h]
            annotations.append({"id": len(annotations), "image_id": image, "category_id": category, "bbox": box,
                                "area": w * h, "iscrowd": 0})  # ids from 0, as own datasets have them
    (folder / "val.json").write_text(json.dumps({
        "images": [{"id": i, "file_name": f"{i}.png", "height": h, "width": w} for i, (h, w) in enumerate(SIZES)],
        "annotations": annotations, "categories": [{"id": i, "name": f"name {i}"} for i in category_ids]}))
    return CocoIndex.read(folder / "val.json", folder)


def perfect_outputs(index: CocoIndex, queries: int = 20) -> tuple[Outputs, list[Target]]:
    """What a model says that knows the annotations: each object by one query, "no object" by the others."""
    logits = np.zeros((len(index), queries, index.classes.num_classes + 1), np.float32)
    boxes = np.full((len(index), queries, 4), 0.5, np.float32)
    logits[:, :, -1] = 12
    targets = []
    for b, image in enumerate(index.images):
        objects = index.annotations(b)
        x, y, w, h = objects.boxes.T / np.array([image.width, image.height] * 2)[:, None]
        for q, label in enumerate(objects.labels):
            logits[b, q, label] = 24
            boxes[b, q] = x[q] + w[q] / 2, y[q] + h[q] / 2, w[q], h[q]
        targets.append(Target(image.id, objects.labels, objects.boxes, objects.area, objects.iscrowd,
                              (32, 32), (image.height, image.width)))
    return Outputs(logits, boxes), targets


def ap_of(index: CocoIndex, outputs: Outputs, targets: list[Target]) -> float:
    evaluator = CocoEvaluator(index)
    evaluator.add(detections(outputs, targets))
    return evaluator.summarize().ap


@pytest.mark.parametrize("ids", CATEGORIES.values(), ids=CATEGORIES.keys())
def test_perfect_detections_score_one(tmp_path, ids):
    index = write_dataset(tmp_path, ids)
    outputs, targets = perfect_outputs(index)
    assert ap_of(index, outputs, targets) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("ids", [CATEGORIES["sparse"], CATEGORIES["huge"]])
def test_labels_off_by_one_score_next_to_nothing(tmp_path, ids):
    """Would the test above notice a wrong category mapping? It must."""
    index = write_dataset(tmp_path, ids)
    outputs, targets = perfect_outputs(index)
    outputs.logits[..., :-1] = np.roll(outputs.logits[..., :-1], 1, axis=-1)
    assert ap_of(index, outputs, targets) < 0.01  # a box of one class may lie on one of another by chance
