"""What the page says of a picture. It knows no browser: arrays and pictures in, arrays and pictures out."""

import threading
import time
from collections import OrderedDict
from dataclasses import replace

import numpy as np
from PIL import Image

from detr_jittor.align.worker import Worker
from detr_jittor.config.options import FRAMEWORKS
from detr_jittor.detector import Detector
from detr_jittor.predict.found import Found
from detr_jittor.predict.looked import Looked
from detr_jittor.predict.predictor import COMPUTING, Predictor, batch_of
from detr_jittor.report.attention import draw_objects
from detr_jittor.types import Look, Outputs

FLOOR = 0.02  # objects with less than this score are none, however low the threshold is set
KEPT = 2  # models in memory, those that were used last
TIMED = 3  # how often a picture is computed for its milliseconds, of which the shortest count


class Answer:
    """What a model says of one picture, kept so that another threshold and a click cost no second computation."""

    def __init__(self, detector: Detector, pixels: np.ndarray):
        """Args: pixels: [H, W, 3] uint8."""
        self.predictor, self.pixels = detector.predictor, pixels
        self.batch = batch_of([pixels], self.predictor.recipe)
        began = time.monotonic()
        with COMPUTING:
            self.outputs = self.predictor.twin.predict(self.batch)
        self.seconds = time.monotonic() - began
        self._looked: Looked | None = None

    def found(self, threshold: float) -> Found:
        """The objects or segments with at least this score."""
        return found_in(self.predictor, self.outputs, self.batch, self.pixels, threshold)

    def looked(self) -> Looked:
        """Where the model looks, computed at the first question."""
        if self._looked is None:
            look = self.predictor.look(self.pixels, FLOOR, masks=False)
            self._looked = Looked(self.pixels, self.pixels, look, self.predictor.classes)
        return self._looked

    def look_at(self, threshold: float, x: float, y: float) -> tuple[str, Image.Image] | None:
        """(name, drawing) of the object at a point in the picture's pixels and where the decoder looks for it.

        Where no object is, the name is "" and the drawing shows where the encoder looks from that point; None if the
        model has no encoder.
        """
        found, looked = self.found(threshold), self.looked()
        row = object_at(found, x, y)
        if row is None:
            drawing = looked.points([(int(x), int(y))])
            return None if drawing is None else ("", drawing)
        # the same query says the same there: a smaller threshold only adds to what is found
        same = (looked.look.found.queries == found.detections.queries[row]) & (looked.found.labels == found.labels[row])
        place = np.flatnonzero(same)
        one = Look(looked.look.found.rows(place), looked.look.objects[place], looked.look.places, looked.look.extent)
        return found.names[row], draw_objects(Image.fromarray(self.pixels), one, self.predictor.classes.name_of())


def found_in(predictor: Predictor, outputs: Outputs, batch, pixels: np.ndarray, threshold: float) -> Found:
    choose = predictor.segments if predictor.is_panoptic else predictor.objects
    (what,) = choose(outputs, batch, max(threshold, FLOOR))
    return Found(pixels, pixels.shape[:2], what, predictor.classes)


def object_at(found: Found, x: float, y: float) -> int | None:
    """Which object is at a point in the picture's pixels: the smallest whose mask is there; else, but not among
    segments, the smallest whose box is."""
    if found.segmentation is not None:
        number = int(found.segmentation.numbers[int(y), int(x)])
        return number - 1 if number else None
    sizes = {row: (x2 - x1) * (y2 - y1) for row, (x1, y1, x2, y2) in enumerate(found.boxes.tolist())
             if x1 <= x <= x2 and y1 <= y <= y2}
    if found.masks is not None:
        at = np.flatnonzero(found.masks[:, int(y), int(x)])
        sizes = {int(row): int(found.masks[row].sum()) for row in at} or sizes
    return min(sizes, key=sizes.get) if sizes else None


class Timed:
    """A model in a process of its own, where no other framework's threads are in its way."""

    def __init__(self, weights: str, options: dict):
        self.predictor = Detector(weights, **options).predictor
        self.is_warm = False

    def answer(self, pixels: np.ndarray) -> tuple[Outputs, float]:
        """(outputs, seconds of the model)"""
        batch = batch_of([pixels], self.predictor.recipe)
        outputs = self.predictor.twin.predict(batch)  # the first one compiles operators
        seconds = []
        for _ in range(TIMED):
            began = time.monotonic()
            outputs = self.predictor.twin.predict(batch)
            seconds.append(time.monotonic() - began)
        return outputs, min(seconds)


class Models:
    """The models that the page has loaded, by the name or file that was asked for."""

    def __init__(self, **options):
        """Args: options: as `Detector` takes them."""
        self.options = options
        self.lock = threading.Lock()
        self.loaded: OrderedDict[str, Detector] = OrderedDict()
        self.workers: dict[str, Worker] = {}
        self.timed = ""  # the weights that the workers have

    def get(self, weights: str) -> Detector:
        """Errors: DetrError if there are none of that name."""
        with self.lock:
            if weights not in self.loaded:
                self.loaded[weights] = Detector(weights, **self.options)
            self.loaded.move_to_end(weights)
            while len(self.loaded) > KEPT:
                self.loaded.popitem(last=False)
            return self.loaded[weights]

    def compare(self, weights: str, answer: Answer, threshold: float) -> tuple[dict[str, tuple[Found, float]], str]:
        """({framework: (what it finds, seconds)}, how far the twins are apart)

        Errors: DetrError if a framework is not installed, WorkerError for whatever else goes wrong in one.
        """
        with self.lock:
            if self.timed != weights:
                self.close()
                self.timed = weights
            outputs, results = {}, {}
            for framework in FRAMEWORKS:
                if framework not in self.workers:
                    self.workers[framework] = Worker(framework, Timed, weights,
                                                     {**self.options, "framework": framework})
                outputs[framework], seconds = self.workers[framework].ask("answer", answer.pixels)
                results[framework] = (found_in(answer.predictor, outputs[framework], answer.batch, answer.pixels,
                                               threshold), seconds)
        return results, apart(answer, *outputs.values())

    def close(self) -> None:
        """End the processes that measure."""
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


def apart(answer: Answer, one: Outputs, other: Outputs) -> str:
    """The largest differences of scores and of boxes, query by query; of masks, the share of places that differ."""
    rows = [answer.predictor.objects(replace(outputs, masks=None), answer.batch, 0.0)[0] for outputs in (one, other)]
    scores, boxes = [], []
    for found in rows:
        order = np.argsort(found.queries)
        scores.append(dict(zip(found.queries[order].tolist(), found.scores[order].tolist())))
        boxes.append(dict(zip(found.queries[order].tolist(), found.boxes[order])))
    both = scores[0].keys() & scores[1].keys()
    score = max((abs(scores[0][q] - scores[1][q]) for q in both), default=0.0)
    box = max((float(np.abs(boxes[0][q] - boxes[1][q]).max()) for q in both), default=0.0)
    mask = "" if one.masks is None else f", Δ mask {np.mean((one.masks > 0) != (other.masks > 0)):.1e}"
    return f"Δ score ≤ {score:.1e}, Δ box ≤ {box:.1e} px{mask}"
