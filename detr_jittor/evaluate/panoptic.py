"""Panoptic quality (arXiv 1801.00868) through hotcoco, which gives panopticapi's numbers. H, W of a picture on disk."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from hotcoco.panoptic import PanopticEval
from PIL import Image

from detr_jittor.data.segments import write_segments
from detr_jittor.errors import DetrError, writing
from detr_jittor.evaluate.summary import defined, number

GROUPS = ("All", "Things", "Stuff")


@dataclass(frozen=True)
class GroupQuality:
    """Means over the classes of a group, in 0 … 1, or −1 where n is 0: panoptic, segmentation, recognition quality."""

    pq: float
    sq: float
    rq: float
    n: int  # classes with at least one segment, true or predicted


@dataclass(frozen=True)
class ClassQuality:
    category_id: int
    name: str
    pq: float  # −1 without any segment, true or predicted
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True)
class PanopticSummary:
    groups: dict[str, GroupQuality]  # by GROUPS
    classes: list[ClassQuality]

    def table(self) -> str:
        """The table as panopticapi prints it, in per cent; "-" for a group without segments."""
        lines = [f"{'':<10}| {'PQ':>5}  {'SQ':>5}  {'RQ':>5} {'N':>5}", "-" * 38]
        for name, group in self.groups.items():
            pq, sq, rq = (f"{100 * q:.1f}" if group.n else "-" for q in (group.pq, group.sq, group.rq))
            lines.append(f"{name:<10}| {pq:>5}  {sq:>5}  {rq:>5} {group.n:5}")
        return "\n".join(lines)

    def class_table(self) -> str:
        """One line a class: name, PQ, and its segments found, false and missed."""
        width = max([len("class"), *(len(c.name) for c in self.classes)])
        lines = [f"{'class':<{width}}      PQ  found  false  missed"]
        lines += [f"{c.name:<{width}}  {number(c.pq):>6}  {c.tp:>5}  {c.fp:>5}  {c.fn:>6}" for c in self.classes]
        return "\n".join(lines)

    def to_json(self) -> dict:
        return {**{name: {key: defined(value) for key, value in asdict(group).items()}
                   for name, group in self.groups.items()},
                "classes": [{**asdict(c), "pq": defined(c.pq)} for c in self.classes]}


class PanopticEvaluator:
    """Collects segmentations and holds them against a dataset in COCO's panoptic format.

    Every picture of the dataset counts; one for which nothing was added has all its segments missed.
    """

    def __init__(self, annotation_file: str | Path, segment_folder: str | Path, folder: str | Path):
        """
        Args:
            segment_folder: the true segments as PNG.
            folder: where the predicted ones are written, in the same format; made if it is not there.
        """
        self.annotation_file, self.segment_folder = Path(annotation_file), Path(segment_folder)
        self.folder = Path(folder)
        with writing(f"{folder}:"):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.truth = json.loads(self.annotation_file.read_bytes())
        self.file_of = {a["image_id"]: a["file_name"] for a in self.truth["annotations"]}
        self.records: dict[int, dict] = {}

    def add(self, image_id: int, segments: np.ndarray, category_of: dict[int, int]) -> None:
        """Take in one picture; added twice, it counts once.

        Args:
            segments: [H, W] segment ids below 2^24, 0 where there is none.
            category_of: segment id → category id.
        """
        file = self.folder / self.file_of[image_id]
        with writing(f"{file}:"):
            write_segments(segments, file)
        self.records[image_id] = {
            "image_id": image_id, "file_name": self.file_of[image_id],
            "segments_info": [{"id": int(s), "category_id": int(c)} for s, c in category_of.items()]}

    def found(self) -> list[tuple[dict, bytes]]:
        """What was taken in, for another process: of each picture the record and the PNG file."""
        with writing(f"{self.folder}:"):  # it may have vanished
            return [(record, (self.folder / record["file_name"]).read_bytes()) for record in self.records.values()]

    def take(self, found: list[tuple[dict, bytes]]) -> None:
        """Take in what another process found."""
        for record, content in found:
            file = self.folder / record["file_name"]
            with writing(f"{file}:"):
                file.write_bytes(content)
            self.records[record["image_id"]] = record

    def summarize(self) -> PanopticSummary:
        """Errors: DetrError if the ground truth cannot be read or has another size than the predictions."""
        try:
            for image_id in self.file_of.keys() - self.records.keys():
                with Image.open(self.segment_folder / self.file_of[image_id]) as image:
                    self.add(image_id, np.zeros((image.height, image.width), np.int64), {})
            predictions = self.folder / "predictions.json"
            with writing(f"{predictions}:"):
                predictions.write_text(json.dumps({"annotations": list(self.records.values())}))
            evaluation = PanopticEval(str(self.annotation_file), str(predictions),
                                      gt_folder=str(self.segment_folder), pred_folder=str(self.folder))
            evaluation.evaluate()
        except (ValueError, OSError) as error:
            raise DetrError(f"{self.annotation_file}: cannot be evaluated ({error}).",
                            "Pass a dataset in COCO's panoptic format.") from None
        results = evaluation.results()
        groups = {name: GroupQuality(**results[name]) for name in GROUPS}
        return PanopticSummary(groups, [of_class(c, results["per_class"][c["id"]]) for c in self.truth["categories"]])


def of_class(category: dict, result: dict) -> ClassQuality:
    return ClassQuality(category["id"], category["name"], **{key: result[key] for key in ("pq", "tp", "fp", "fn")})
