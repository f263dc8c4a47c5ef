"""All that an evaluation measures: box AP, with masks also mask AP, on panoptic data also panoptic quality."""

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from detr_jittor.data.coco import CocoIndex
from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.evaluate.mistakes import Mistakes
from detr_jittor.evaluate.panoptic import PanopticEvaluator, PanopticSummary
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.evaluate.segmentation import panoptic
from detr_jittor.evaluate.summary import Summary, number
from detr_jittor.types import Outputs, Target

SAMPLE = 8  # pictures whose detections are kept for a sheet


@dataclass(frozen=True)
class Results:
    """The numbers of an evaluation."""

    bbox: Summary
    segm: Summary | None = None  # with masks
    panoptic: PanopticSummary | None = None  # with masks, on panoptic data
    mistakes: Mistakes | None = field(default=None, compare=False, repr=False)  # of boxes, where looked for

    @property
    def ap(self) -> float:
        """What the best checkpoint is chosen by: the AP of the masks where there are masks, else of the boxes."""
        return (self.segm or self.bbox).ap

    def line(self, epoch: int) -> str:
        """The line of eval_summary.txt."""
        parts = [self.bbox.line(epoch)]
        if self.segm:
            parts.append(f"mask AP={number(self.segm.ap)}")
        if self.panoptic:
            parts.append(f"PQ={number(self.panoptic.groups['All'].pq)}")
        return " | ".join(parts)

    def log_entries(self) -> dict:
        """What log.txt says, under the reference code's keys."""
        entries = {"coco_eval_bbox": self.bbox.stats}
        if self.segm:
            entries["coco_eval_masks"] = self.segm.stats
        if self.panoptic:
            for key, group in (("PQ_all", "All"), ("PQ_th", "Things"), ("PQ_st", "Stuff")):
                entries[key] = asdict(self.panoptic.groups[group])
        return entries

    def tables(self) -> str:
        """Every number, to print."""
        parts = {"": self.bbox, "Masks": self.segm, "Panoptic quality": self.panoptic}
        return "\n\n".join("\n".join([title] * bool(title) + [part.table(), "", part.class_table()])
                           for title, part in parts.items() if part)

    def __str__(self) -> str:
        return self.tables()

    def to_json(self) -> dict:
        """What eval.json holds: the box numbers, and under "segm" and "panoptic" the others."""
        others = {"segm": self.segm, "panoptic": self.panoptic}
        return {**self.bbox.to_json(), **{key: part.to_json() for key, part in others.items() if part}}


class Evaluator:
    """Collects the outputs of pictures and holds them against a dataset."""

    def __init__(self, index: CocoIndex, masks: bool, folder: str | Path | None = None, mistakes: bool = False):
        """
        Args:
            folder: where the predicted segments are written; None: nowhere that lasts.
            mistakes: look too for what went wrong.
        """
        self.wants_mistakes = mistakes
        truth = index.detection_truth
        self.bbox = CocoEvaluator(truth)
        self.segm = CocoEvaluator(truth, "segm") if masks else None
        self.panoptic = None
        if masks and (truth := index.panoptic_truth):
            self.classes, self.category_of = index.classes, index.classes.category_of()
            self.temporary = None if folder else tempfile.TemporaryDirectory()
            self.panoptic = PanopticEvaluator(*truth, folder or self.temporary.name)

    def add(self, outputs: Outputs, targets: list[Target]) -> None:
        """Take in the outputs of some pictures."""
        found = detections(outputs, targets)
        self.bbox.add(found)
        if self.segm:
            self.segm.add(found)
        if self.panoptic:
            for target, found in zip(targets, panoptic(outputs, targets, self.classes)):
                category_of = {k + 1: self.category_of[label] for k, label in enumerate(found.labels.tolist())}
                self.panoptic.add(target.image_id, found.numbers, category_of)

    def found(self) -> list:
        """What was taken in, for another process."""
        return [part and part.found() for part in (self.bbox, self.segm, self.panoptic)]

    def take(self, found: list) -> None:
        """Take in what another process found, as its `found` gives it."""
        for part, of_part in zip((self.bbox, self.segm, self.panoptic), found):
            if part:
                part.take(of_part)

    def summarize(self) -> Results:
        numbers = [part.summarize() if part else None for part in (self.bbox, self.segm, self.panoptic)]
        return Results(*numbers, mistakes=self.bbox.mistakes(SAMPLE) if self.wants_mistakes else None)
