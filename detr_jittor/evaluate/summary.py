"""What an evaluation says: COCO's twelve numbers and each class's own, to print and to keep."""

from dataclasses import dataclass

import numpy as np

from detr_jittor.errors import visible

# COCO's order: name, average precision or recall, IoU, area, detections a picture.
STATS = (
    ("AP", "Precision", "0.50:0.95", "all", 100),
    ("AP50", "Precision", "0.50", "all", 100),
    ("AP75", "Precision", "0.75", "all", 100),
    ("AP_small", "Precision", "0.50:0.95", "small", 100),
    ("AP_medium", "Precision", "0.50:0.95", "medium", 100),
    ("AP_large", "Precision", "0.50:0.95", "large", 100),
    ("AR_1", "Recall", "0.50:0.95", "all", 1),
    ("AR_10", "Recall", "0.50:0.95", "all", 10),
    ("AR_100", "Recall", "0.50:0.95", "all", 100),
    ("AR_small", "Recall", "0.50:0.95", "small", 100),
    ("AR_medium", "Recall", "0.50:0.95", "medium", 100),
    ("AR_large", "Recall", "0.50:0.95", "large", 100),
)


@dataclass(frozen=True)
class ClassSummary:
    """One class. AP is −1 where the ground truth has no object of it."""

    category_id: int
    name: str
    objects: int  # in the ground truth, without crowds
    ap: float
    ap50: float


@dataclass(frozen=True)
class Summary:
    """An evaluation's numbers, all in 0 … 1, or −1 where the ground truth has nothing to measure."""

    stats: list[float]  # COCO's twelve, in the order of STATS
    classes: list[ClassSummary]  # by ascending category id
    iou_type: str = "bbox"

    @property
    def ap(self) -> float:
        return self.stats[0]

    def line(self, epoch: int, split: str = "val") -> str:
        """The line of eval_summary.txt: `[val] epoch= 12 AP=0.0123 | AP50=0.0345 | AP75=0.0012`."""
        ap, ap50, ap75 = (number(x) for x in self.stats[:3])
        return f"[{split}] epoch={epoch:>3} AP={ap} | AP50={ap50} | AP75={ap75}"

    def table(self) -> str:
        """The twelve lines as COCO prints them."""
        return "\n".join(
            f" {'Average ' + kind:<18} {'(AP)' if kind == 'Precision' else '(AR)'} @[ IoU={iou:<9} | area={area:>6} "
            f"| maxDets={detections:>3} ] = {value:0.3f}"
            for (_, kind, iou, area, detections), value in zip(STATS, self.stats))

    def class_table(self) -> str:
        """One line a class: name, objects, AP, AP50; "-" where there is no object to find."""
        names = [visible(c.name) for c in self.classes]
        width = max(map(len, ["class", *names]))
        lines = [f"{'class':<{width}}  objects      AP    AP50"]
        lines += [f"{name:<{width}}  {c.objects:>7}  {number(c.ap):>6}  {number(c.ap50):>6}"
                  for name, c in zip(names, self.classes)]
        return "\n".join(lines)

    def to_json(self) -> dict:
        """What eval.json holds; null for what is not defined."""
        return {"iou_type": self.iou_type,
                **{name: defined(value) for (name, *_), value in zip(STATS, self.stats)},
                "classes": [{"category_id": c.category_id, "name": c.name, "objects": c.objects,
                             "AP": defined(c.ap), "AP50": defined(c.ap50)} for c in self.classes]}


def number(value: float) -> str:
    return "-" if value < 0 else f"{value:.4f}"


def defined(value: float) -> float | None:
    return None if value < 0 else value


def mean(precision: np.ndarray) -> float:
    """The mean where it is defined, −1 where nothing is (a class without objects)."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else -1.0
