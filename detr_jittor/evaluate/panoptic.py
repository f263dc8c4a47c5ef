"""Panoptic quality (arXiv 1801.00868) through hotcoco, which gives panopticapi's numbers. H, W of a picture on disk."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from hotcoco.panoptic import PanopticEval

from detr_jittor.data.panoptic import read_truth
from detr_jittor.data.segments import Segment, segment_ids, segment_masks, write_segments
from detr_jittor.errors import DetrError, visible, writing
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
    left_out: int = 0  # pictures whose true segments cannot be read

    def table(self) -> str:
        """The table as panopticapi prints it, in per cent; "-" for a group without segments."""
        lines = [f"{'':<10}| {'PQ':>5}  {'SQ':>5}  {'RQ':>5} {'N':>5}", "-" * 38]
        for name, group in self.groups.items():
            pq, sq, rq = (f"{100 * q:.1f}" if group.n else "-" for q in (group.pq, group.sq, group.rq))
            lines.append(f"{name:<10}| {pq:>5}  {sq:>5}  {rq:>5} {group.n:5}")
        if self.left_out:
            lines.append(f"without {self.left_out} pictures whose true segments cannot be read")
        return "\n".join(lines)

    def class_table(self) -> str:
        """One line a class: name, PQ, and its segments found, false and missed."""
        names = [visible(c.name) for c in self.classes]
        width = max(map(len, ["class", *names]))
        lines = [f"{'class':<{width}}      PQ  found  false  missed"]
        lines += [f"{name:<{width}}  {number(c.pq):>6}  {c.tp:>5}  {c.fp:>5}  {c.fn:>6}"
                  for name, c in zip(names, self.classes)]
        return "\n".join(lines)

    def to_json(self) -> dict:
        return {**{name: {key: defined(value) for key, value in asdict(group).items()}
                   for name, group in self.groups.items()},
                "left_out": self.left_out,
                "classes": [{**asdict(c), "pq": defined(c.pq)} for c in self.classes]}


class PanopticEvaluator:
    """Collects segmentations and holds them against a dataset in COCO's panoptic format.

    Every picture of the dataset counts; one for which nothing was added has all its segments missed. Left out are
    those whose true segments cannot be read, as they are in training.
    """

    def __init__(self, annotation_file: str | Path, segment_folder: str | Path, folder: str | Path):
        """
        Args:
            segment_folder: the true segments as PNG.
            folder: where the predicted ones are written, in the same format; made if it is not there.

        Errors: DetrError if the annotation file cannot be read or the folder cannot be written.
        """
        self.annotation_file, self.segment_folder = Path(annotation_file), Path(segment_folder)
        self.folder = Path(folder)
        with writing(f"{self.folder}: segments"):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.truth = read_truth(self.annotation_file)
        self.records: dict[int, dict] = {}

    def add(self, image_id: int, segments: np.ndarray, category_of: dict[int, int]) -> None:
        """Take in one picture; added twice, it counts once.

        Args:
            segments: [H, W] segment ids below 2^24, 0 where there is none.
            category_of: segment id → category id.

        Errors: DetrError if the segments cannot be written.
        """
        file = f"{image_id:012}.png"  # as the reference code names them
        with writing(f"{self.folder}: segments"):
            write_segments(segments, self.folder / file)
        self.records[image_id] = {
            "image_id": image_id, "file_name": file,
            "segments_info": [{"id": int(s), "category_id": int(c)} for s, c in category_of.items()]}

    def found(self) -> list[tuple[dict, bytes]]:
        """What was taken in, for another process: of each picture the record and the PNG file."""
        with writing(f"{self.folder}: segments"):
            return [(record, (self.folder / record["file_name"]).read_bytes()) for record in self.records.values()]

    def take(self, found: list[tuple[dict, bytes]]) -> None:
        """Take in what another process found."""
        for record, content in found:
            with writing(f"{self.folder}: segments"):
                (self.folder / record["file_name"]).write_bytes(content)
            self.records[record["image_id"]] = record

    def summarize(self) -> PanopticSummary:
        """Errors: DetrError if the ground truth has another size than the predictions, or nothing can be written."""
        size_of = {image["id"]: (image["height"], image["width"]) for image in self.truth["images"]}
        truth = [a for a in self.truth["annotations"] if self.is_readable(a, size_of[a["image_id"]])]
        for annotation in truth:
            if annotation["image_id"] not in self.records:
                self.add(annotation["image_id"], np.zeros(size_of[annotation["image_id"]], np.int64), {})
        left_out = len(self.truth["annotations"]) - len(truth)
        evaluation = self.evaluated([plain(annotation) for annotation in truth])
        results = evaluation.results()
        groups = {name: GroupQuality(**results[name]) for name in GROUPS}
        classes = [of_class(c, results["per_class"][c["id"]]) for c in self.truth["categories"]]
        return PanopticSummary(groups, classes, left_out)

    def is_readable(self, annotation: dict, size: tuple[int, int]) -> bool:
        """Whether the true segments of a picture can be read. The model has seen none where they cannot, unless a
        picture has no segments."""
        file, info = str(self.segment_folder / annotation["file_name"]), annotation["segments_info"]
        if annotation["image_id"] in self.records and info:
            return True
        try:
            if info:
                segment_masks([Segment(file, segment["id"]) for segment in info], *size)
            return bool(info) or segment_ids(file).shape == size
        except DetrError:
            return False

    def evaluated(self, truth: list[dict]) -> PanopticEval:
        """The predictions held against these annotations."""
        owners = {annotation["image_id"] for annotation in truth}
        files = {"truth": {"images": [{"id": i} for i in owners], "annotations": truth, "categories":
                           [{k: c[k] for k in ("id", "name")} | {"isthing": int(c["isthing"])}
                            for c in self.truth["categories"]]},
                 "predictions": {"annotations": [r for i, r in self.records.items() if i in owners]}}
        with writing(f"{self.folder}: segments"):
            for name, content in files.items():
                (self.folder / f"{name}.json").write_text(json.dumps(content))
        try:
            evaluation = PanopticEval(*(str(self.folder / f"{name}.json") for name in files),
                                      gt_folder=str(self.segment_folder), pred_folder=str(self.folder))
            evaluation.evaluate()
        except (ValueError, OSError) as error:
            raise DetrError(f"{self.annotation_file}: cannot be evaluated ({error}).",
                            "Pass a dataset in COCO's panoptic format.") from None
        return evaluation


def plain(annotation: dict) -> dict:
    """What is needed of an annotation. Its areas are not: without them hotcoco counts pixels, else it believes them."""
    segments = [{"id": s["id"], "category_id": s["category_id"], "iscrowd": int(s.get("iscrowd", 0))}
                for s in annotation["segments_info"]]
    return {"image_id": annotation["image_id"], "file_name": annotation["file_name"], "segments_info": segments}


def of_class(category: dict, result: dict) -> ClassQuality:
    return ClassQuality(category["id"], category["name"], **{key: result[key] for key in ("pq", "tp", "fp", "fn")})
