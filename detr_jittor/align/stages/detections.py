"""Stage 10: the detections of both twins on a dataset, matched one to one, and what they do to the AP."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy.optimize import linear_sum_assignment

from detr_jittor.align.measure import Item
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import JITTOR, PYTORCH, Trial
from detr_jittor.types import Classes, Detections

BEST = 5  # detections a picture that serve as truth in the second AP


def run(trial: Trial) -> Stage:
    wanted = -(-trial.plan.detection_images // trial.config.optim.batch_size)
    batches = list(islice(trial.batches("val"), wanted))
    found = {JITTOR: [], PYTORCH: []}
    for i, batch in enumerate(batches):
        found[JITTOR] += trial.ask(JITTOR, "detections", batch)
        found[PYTORCH] += trial.once(f"detections {i}", PYTORCH, "detections", batch)
    differences = [difference(a, b) for a, b in zip(found[JITTOR], found[PYTORCH], strict=True)]
    items = difference_items(differences, trial.config.model.masks)
    items += ap_items(trial, found)
    count = sum(len(d.scores) for d in found[PYTORCH])
    return Stage("detections", items, [f"{count} detections in {len(differences)} pictures"])


def difference(a: Detections, b: Detections) -> tuple[float, float, int, float]:
    """(largest difference of scores, of boxes in pixels, labels that differ, largest share of a mask that differs)
    after matching one to one."""
    other_label = a.labels[:, None] != b.labels[None, :]
    scores = np.abs(a.scores[:, None] - b.scores[None, :])  # [N, N]
    boxes = np.abs(a.boxes[:, None, :] - b.boxes[None, :, :]).max(-1)  # [N, N]
    rows, columns = linear_sum_assignment(scores + boxes / 100 + other_label)
    # Two classes as likely as each other: the label is a matter of the last digit.
    differing = other_label[rows, columns] & (scores[rows, columns] > tolerance("detection score"))
    pixels = 0.0
    if a.masks is not None:
        pixels = float(np.unpackbits(a.masks[rows] ^ b.masks[columns], axis=1).mean(axis=1).max())
    return float(scores[rows, columns].max()), float(boxes[rows, columns].max()), int(differing.sum()), pixels


def difference_items(differences: list[tuple[float, float, int, float]], masks: bool) -> list[Item]:
    scores, boxes, labels, pixels = (max(d[i] for d in differences) for i in range(4))
    return [
        Item("scores", scores <= tolerance("detection score"), note=f"largest difference {scores:.1e}"),
        Item("boxes", boxes <= tolerance("detection box"), note=f"largest difference {boxes:.1e} pixels"),
        Item("labels", labels == 0, note=f"at most {labels} of a picture differ"),
    ] + [Item("masks", pixels <= tolerance("detection mask"), note=f"at most {pixels:.1e} of a mask's pixels differ")
         ] * masks


@dataclass
class Truth:
    """A dataset for the evaluator: some pictures of an index, with its annotations or others."""

    classes: Classes
    images: list[dict]
    annotations: list[dict]

    def ground_truth(self) -> dict:
        categories = [{"id": c, "name": n} for c, n in zip(self.classes.category_ids, self.classes.names)]
        annotations = [{**a, "id": i} for i, a in enumerate(self.annotations, 1)]
        return {"info": {}, "images": self.images, "categories": categories, "annotations": annotations}


def ap_items(trial: Trial, found: dict[str, list[Detections]]) -> list[Item]:
    """ΔAP on the dataset, and the AP of Jittor's detections where PyTorch's best ones are the truth.

    The second says something under random weights too, when the first is a comparison of zeros.
    """
    whole, seen = trial.index.ground_truth(), {d.image_id for d in found[PYTORCH]}
    images = [image for image in whole["images"] if image["id"] in seen]
    real = Truth(trial.index.classes, images, [a for a in whole["annotations"] if a["image_id"] in seen])
    own = Truth(trial.index.classes, images, pseudo_annotations(found[PYTORCH], trial.index.classes))
    (ours, theirs), (against_own, itself) = (
        (trial.ask(JITTOR, "average_precision", truth, found[JITTOR]),
         trial.once(label, PYTORCH, "average_precision", truth, found[PYTORCH]))
        for label, truth in (("AP", real), ("AP against own", own)))
    return [
        Item("AP on the dataset", abs(ours - theirs) <= tolerance("AP"),
             note=f"jittor {ours:.4f}, pytorch {theirs:.4f}, difference {ours - theirs:+.1e}"),
        Item("AP against PyTorch's best detections", abs(against_own - itself) <= tolerance("AP"),
             note=f"jittor {against_own:.4f}, pytorch itself {itself:.4f}"),
    ]


def pseudo_annotations(found: list[Detections], classes: Classes) -> list[dict]:
    """The best detections of each picture that stand for a category, as annotations."""
    category_of, annotations = classes.category_of(), []
    for of_picture in found:
        usable = [i for i, label in enumerate(of_picture.labels.tolist()) if label in category_of][:BEST]
        for i in usable:
            x1, y1, x2, y2 = of_picture.boxes[i].tolist()
            annotations.append({"image_id": of_picture.image_id, "category_id": category_of[int(of_picture.labels[i])],
                                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0})
    return annotations
