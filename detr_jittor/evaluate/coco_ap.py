"""COCO's average precision through faster-coco-eval, which gives pycocotools' numbers."""

import numpy as np
from faster_coco_eval import COCO
from faster_coco_eval.core import mask as rle
from faster_coco_eval.core.faster_eval_api import COCOeval_faster

from detr_jittor.evaluate.mistakes import Mistakes, find_mistakes
from detr_jittor.evaluate.summary import ClassSummary, Summary, mean
from detr_jittor.types import Classes, Detections


class CocoEvaluator:
    """Collects detections and holds them against a dataset's annotations.

    Every picture of the dataset counts, also those for which nothing was added. A picture that is added twice counts
    once.
    """

    def __init__(self, index, iou_type: str = "bbox"):
        """
        Args:
            index: a `data.coco.CocoIndex`.
            iou_type: "bbox", or "segm" to measure the overlap of masks.
        """
        self.classes: Classes = index.classes
        self.iou_type = iou_type
        truth = index.ground_truth()
        # The library holds ids as floating-point numbers: from 2^53 on neighbours would be the same. Both are counted
        # anew, in the order of the ids, which decides between equal scores.
        self.number_of = {i: place for place, i in enumerate(sorted(image["id"] for image in truth["images"]), 1)}
        self.category_of = {label: row for row, label in enumerate(index.classes.labels, 1)}
        self.truth = COCO(self.renumbered(truth))
        self.results: dict[int, list[dict]] = {}
        self.evaluation: COCOeval_faster | None = None  # the last one

    def renumbered(self, truth: dict) -> dict:
        """A dataset whose pictures and categories are called by their numbers here."""
        number = {category: row for row, category in enumerate(self.classes.category_ids, 1)}
        return {**truth, "images": [{**i, "id": self.number_of[i["id"]]} for i in truth["images"]],
                "categories": [{**c, "id": number[c["id"]]} for c in truth["categories"]],
                "annotations": [{**a, "image_id": self.number_of[a["image_id"]],
                                 "category_id": number[a["category_id"]]} for a in truth["annotations"]]}

    def add(self, detections: list[Detections]) -> None:
        """Take in the detections of some pictures. Labels that stand for no category are left out, as COCO does."""
        category_of = self.category_of
        for of_picture in detections:
            self.results[of_picture.image_id] = [
                {"image_id": self.number_of[of_picture.image_id], "category_id": category_of[label],
                 "score": float(of_picture.scores[i]), **self.shape(of_picture, i)}
                for i, label in enumerate(of_picture.labels.tolist()) if label in category_of]

    def found(self) -> dict[int, list[dict]]:
        """What was taken in, for another process."""
        return self.results

    def take(self, found: dict[int, list[dict]]) -> None:
        """Take in what another process found."""
        self.results.update(found)

    def shape(self, of_picture: Detections, i: int) -> dict:
        if self.iou_type == "segm":
            return {"segmentation": rle.encode(np.asfortranarray(of_picture.masks[i], np.uint8))}
        x1, y1, x2, y2 = of_picture.boxes[i].tolist()
        return {"bbox": [x1, y1, x2 - x1, y2 - y1]}

    def summarize(self) -> Summary:
        """The twelve numbers and each class's own."""
        found = self.truth.loadRes([record for records in self.results.values() for record in records])
        evaluation = COCOeval_faster(self.truth, found, self.iou_type, print_function=lambda *_: None)
        evaluation.run()
        self.evaluation = evaluation
        return Summary([float(number) for number in evaluation.stats], self.by_class(evaluation), self.iou_type)

    def mistakes(self, sample: int = 0) -> Mistakes:
        """What went wrong, of boxes, once `summarize` has run. Args: sample: pictures to keep for a sheet."""
        rows = list(zip(self.classes.labels, self.classes.names))
        return find_mistakes(self.evaluation, self.results, self.number_of, rows, sample)

    def by_class(self, evaluation: COCOeval_faster) -> list[ClassSummary]:
        precision = evaluation.eval["precision"][..., 0, -1]  # [thresholds, recalls, classes], all areas, 100 a picture
        objects = dict.fromkeys(self.category_of.values(), 0)
        for annotation in self.truth.dataset["annotations"]:
            objects[annotation["category_id"]] += not annotation.get("iscrowd", 0)
        rows = list(zip(self.classes.category_ids, self.classes.names))
        return [ClassSummary(*rows[number - 1], objects[number], ap=mean(precision[:, :, k]),
                             ap50=mean(precision[0, :, k])) for k, number in enumerate(evaluation.params.catIds)]
