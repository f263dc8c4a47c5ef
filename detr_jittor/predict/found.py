"""What was found in one picture: to look at, to compute with, and for other tools. N objects, H × W pixels."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from detr_jittor.data.decode import read_image
from detr_jittor.data.masks import run_lengths
from detr_jittor.errors import DetrError, visible, writing
from detr_jittor.extras import package
from detr_jittor.report.notebook import show
from detr_jittor.report.pictures import COLOURS, draw_detections
from detr_jittor.report.segments import draw_masks, draw_segmentation
from detr_jittor.types import Classes, Detections, Segmentation


@dataclass(frozen=True)
class Thing:
    """One object, or one segment of a panoptic model."""

    name: str
    score: float
    label: int  # the class's number
    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
    mask: np.ndarray | None = None  # [H, W] bool, of a model with masks


class Found:
    """The objects in a picture, the best first; of a panoptic model the segments, each with the box around it.

    `len(found)` counts them, `for thing in found` gives them one by one, and `found[found.scores > 0.9]` is a choice
    of them, as with NumPy. In a notebook it is shown as the picture with what is drawn into it.
    """

    def __init__(self, picture: np.ndarray | str | Path, size: tuple[int, int], what: Detections | Segmentation,
                 classes: Classes):
        """
        Args:
            picture: [H, W, 3] uint8, or the file, which is read again where pixels are needed.
            size: (H, W).
        """
        self.path = None if isinstance(picture, np.ndarray) else Path(picture)
        self._pixels = picture if isinstance(picture, np.ndarray) else None
        self.height, self.width = size
        self.classes = classes
        self.segmentation = what if isinstance(what, Segmentation) else None
        self.detections = boxes_of(what) if isinstance(what, Segmentation) else what

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4] float32: x1, y1, x2, y2 in pixels of the picture."""
        return self.detections.boxes

    @property
    def scores(self) -> np.ndarray:
        """[N] float32, from 0 to 1."""
        return self.detections.scores

    @property
    def labels(self) -> np.ndarray:
        """[N] int64: numbers of the classes, which are COCO's category ids where these are small."""
        return self.detections.labels

    @property
    def names(self) -> list[str]:
        """[N] names of the classes."""
        name_of = self.classes.name_of()
        return [name_of[label] for label in self.labels.tolist()]

    @property
    def masks(self) -> np.ndarray | None:
        """[N, H, W] bool, of a model with masks; None of others."""
        if self.segmentation is None:
            return self.detections.masks
        return self.segmentation.numbers == np.arange(1, len(self) + 1)[:, None, None]

    # The same under supervision's names
    xyxy = boxes
    confidence = scores
    class_id = labels
    mask = masks

    @property
    def pixels(self) -> np.ndarray:
        """[H, W, 3] uint8: the picture itself. Errors: DetrError if its file cannot be read any more."""
        return read_image(self.path) if self._pixels is None else self._pixels

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Thing]:
        masks = [None] * len(self) if self.masks is None else self.masks
        rows = zip(self.names, self.scores.tolist(), self.labels.tolist(), self.boxes.tolist(), masks)
        return (Thing(name, score, label, tuple(box), mask) for name, score, label, box, mask in rows)

    def __getitem__(self, rows: int | slice | list | np.ndarray) -> "Found":
        """Some of the objects, by place or by [N] bool."""
        places = np.atleast_1d(np.arange(len(self))[rows])
        what: Detections | Segmentation = self.detections.rows(places)
        if self.segmentation is not None:
            number = np.zeros(len(self) + 1, np.int64)  # the new number of each segment
            number[places + 1] = np.arange(len(places)) + 1
            s = self.segmentation
            queries = None if s.queries is None else s.queries[places]
            what = Segmentation(number[s.numbers], s.labels[places], s.scores[places], queries)
        picture = self.path if self._pixels is None else self._pixels
        return Found(picture, (self.height, self.width), what, self.classes)

    def draw(self) -> Image.Image:
        """The picture with boxes or segments, names and scores; one of less than 480 pixels is enlarged."""
        image, names = Image.fromarray(self.pixels), self.classes.name_of()
        if self.segmentation is not None:
            return draw_segmentation(image, self.segmentation, names)
        if self.masks is not None:
            image = draw_masks(image, self.masks, [COLOURS[label % len(COLOURS)] for label in self.labels])
        return draw_detections(image, self.boxes, self.labels, self.scores, names)

    def show(self) -> None:
        """Show the drawing: in a notebook below the cell, else in the system's program for pictures."""
        show(self.draw())

    def save(self, path: str | Path) -> Path:
        """Write the drawing, in the format that the suffix names. Returns: the file. Errors: DetrError."""
        return write(self.draw(), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: `file`, `width`, `height`, and `detections` or `segments` as `to_coco` has them, of
        segments also `id` and `isthing`."""
        records = self.records()
        if self.segmentation is not None:
            shapes = object_records(self.detections, self.masks, self.classes)
            records = [{**record, **shape} for record, shape in zip(records, shapes)]
        return {"file": None if self.path is None else str(self.path), "width": self.width, "height": self.height,
                "detections" if self.segmentation is None else "segments": records}

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Records of COCO's result files: `image_id`, `category_id`, `category` (the name), `score`, `bbox` as
        [x, y, width, height] in pixels, and of a model with masks `area` and `segmentation` as run lengths."""
        records = object_records(self.detections, self.masks, self.classes)
        return [{"image_id": image_id, **record} for record in records]

    def records(self) -> list[dict[str, Any]]:
        """What predictions.json says of this picture."""
        if self.segmentation is None:
            return object_records(self.detections, self.masks, self.classes)
        return segment_records(self.segmentation, self.classes)

    def to_supervision(self):
        """The same as `supervision.Detections`, with the names as `data["class_name"]`.

        Errors: DetrError if supervision is not installed.
        """
        supervision = package("supervision", "supervision", "to_supervision")
        return supervision.Detections(xyxy=self.boxes.copy(), mask=self.masks, confidence=self.scores.copy(),
                                      class_id=self.labels.copy(), data={"class_name": np.array(self.names, str)})

    def __repr__(self) -> str:
        what = "object" if self.segmentation is None else "segment"
        told = ", ".join(f"{visible(thing)} {score:.2f}" for thing, score in zip(self.names[:8], self.scores))
        more = ", …" * (len(self) > 8)
        return (f"{self.path.name if self.path else 'picture'} {self.width}×{self.height}: {len(self)} {what}"
                + "s" * (len(self) != 1) + (f" ({told}{more})" if len(self) else ""))

    def _repr_png_(self) -> bytes:
        return png(self.draw())


def boxes_of(segmentation: Segmentation) -> Detections:
    """The box around each segment; its masks are made where they are asked for."""
    places = ndimage.find_objects(segmentation.numbers, max_label=len(segmentation.labels))
    boxes = [(0, 0, 0, 0) if at is None else (at[1].start, at[0].start, at[1].stop, at[0].stop) for at in places]
    return Detections(0, segmentation.scores, segmentation.labels, np.array(boxes, np.float32).reshape(-1, 4),
                      queries=segmentation.queries)


def object_records(found: Detections, masks: np.ndarray | None, classes: Classes) -> list[dict]:
    """Detections in COCO's format of results; boxes are [x, y, width, height] in pixels, masks are run lengths."""
    category_of, name_of = classes.category_of(), classes.name_of()
    records = [
        {"category_id": category_of[label], "category": name_of[label], "score": round(score, 4),
         "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]}
        for score, label, (x1, y1, x2, y2) in zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist())]
    if masks is not None:
        for record, mask in zip(records, masks):
            record |= {"area": int(mask.sum()), "segmentation": run_lengths(mask)}
    return records


def segment_records(found: Segmentation, classes: Classes) -> list[dict]:
    """Segments as COCO's panoptic files have them, with names and scores."""
    category_of, name_of = classes.category_of(), classes.name_of()
    areas = np.bincount(found.numbers.ravel(), minlength=len(found.labels) + 1)[1:].tolist()
    return [{"id": k + 1, "category_id": category_of[label], "category": name_of[label], "score": round(score, 4),
             "area": area, "isthing": int(not classes.is_stuff(label))}
            for k, (label, score, area) in enumerate(zip(found.labels.tolist(), found.scores.tolist(), areas))]


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def write(image: Image.Image, path: str | Path) -> Path:
    """Write a picture, in the format that the suffix names. Returns: the file. Errors: DetrError."""
    path = Path(path)
    with writing(f"{path}:", "Choose another place."):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}))
        except ValueError:  # a suffix that names no format
            raise DetrError(f"{path}: its suffix names no format of pictures.", "Name a .jpg or .png file.") from None
    return path
