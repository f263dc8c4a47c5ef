"""A trained model that finds objects or segments in pictures. N detections."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from detr_jittor.checkpoint.architecture import classes_of, difference, num_classes, settings_of
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.check import check_sizes
from detr_jittor.config.options import Config, read_config
from detr_jittor.data.batch import collate, unannotated
from detr_jittor.data.recipe import Recipe
from detr_jittor.data.records import ImageRecord
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.evaluate.segmentation import THRESHOLD, Segmentation, panoptic
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.seeding import generator
from detr_jittor.types import Batch, Classes, Detections, Look, Outputs, State

# A framework computes for one at a time: both have switches that hold for the whole process, such as that no gradients
# are wanted. Also held by whoever trains or evaluates in a process that predicts.
COMPUTING = threading.RLock()

Threshold = float | str | dict[int, float] | None  # a score; "best" or a mistakes.json; {label: score}; the usual


class Predictor:
    """A checkpoint's model with the scaling of its evaluation."""

    def __init__(self, checkpoint: Checkpoint, config: Config, origin: str | Path):
        """
        Args:
            config: the checkpoint's own, with `framework`, `device` and sizes as wanted here.
            origin: the checkpoint's file, to be named in errors.

        Errors: DetrError if it holds no weights of a DETR, or such that do not fit `config`.
        """
        count = num_classes(checkpoint)
        if count is None:
            raise DetrError(f"{origin}: holds no weights of a DETR.", "Pass a checkpoint that a training run wrote.")
        if other := difference(config, checkpoint.state.model):
            raise DetrError(f"{origin}: its settings are not those of its weights: {other}.",
                            "Pass the config.json of the run that wrote it with --config.")
        check_sizes(config)
        self.is_panoptic = config.model.masks and config.data.dataset_file == "coco_panoptic"
        self.classes = classes_of(checkpoint) or unnamed_classes(count)
        self.twin = load_twin(config.run.framework)(config, count)
        self.twin.load(State(checkpoint.state.averaged, {}))
        each = 0.4 if config.model.has_focal else 0.7  # a focal loss leaves scores lower
        self.threshold = THRESHOLD if self.is_panoptic else each
        self.thresholds = checkpoint.thresholds  # {label: the best score}, empty where it was not measured
        self.origin = origin
        self.recipe = Recipe("none", config.data.min_size, config.data.max_size)

    def threshold_of(self, wanted: Threshold) -> float | dict[int, float]:
        """A score, or one for each label: of "best" those that the checkpoint holds, of a mistakes.json those in it.

        Errors: DetrError if there are none.
        """
        if wanted is None:
            return self.threshold
        if isinstance(wanted, (int, float)):
            if not 0 <= wanted <= 1:
                raise DetrError(f"threshold {wanted} is no score.", "Give a number from 0 to 1.")
            return float(wanted)
        if isinstance(wanted, dict):
            return wanted
        if self.is_panoptic:
            raise DetrError(f"threshold {wanted}: segments have one threshold.", "Give a number from 0 to 1.")
        if wanted != "best":
            return self.in_file(Path(wanted))
        if not self.thresholds:
            raise DetrError(f"{self.origin}: holds no best thresholds, which training measures.",
                            "Run detr-jittor evaluate with --output_dir D, and pass D/mistakes/mistakes.json.")
        return self.thresholds

    def in_file(self, file: Path) -> dict[int, float]:
        """{label: score} of a mistakes.json, by the classes' names. Errors: DetrError if it holds none of them."""
        try:
            of_name = {row["name"]: float(row["threshold"]) for row in json.loads(file.read_text("utf-8"))["classes"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DetrError(f"threshold {file}: neither a score nor a mistakes.json ({type(error).__name__}).",
                            "Give a number from 0 to 1, best, or the file that an evaluation has written.") from None
        known = zip(self.classes.labels, self.classes.names)
        found = {label: of_name[name] for label, name in known if name in of_name}
        if not found:
            raise DetrError(f"{file}: none of its classes is one of this model's.", "Evaluate this model.")
        return found

    def find(self, batch: Batch, threshold: Threshold = None) -> list[Detections] | list[Segmentation]:
        """What is found in each picture of a batch: segments with a panoptic model, else objects.

        Labels that stand for no category are left out, as COCO's evaluation does. Any number of threads may ask at
        the same time; one after the other is served.

        Args:
            threshold: the smallest score of what is found (of segments: the largest that is left out); None: the usual;
                see `threshold_of`.

        Errors: DetrError for a threshold that there is not.
        """
        threshold = self.threshold_of(threshold)
        with COMPUTING:
            outputs = self.twin.predict(batch)
        return self.segments(outputs, batch, threshold) if self.is_panoptic else self.objects(outputs, batch, threshold)

    def detect(self, pixels: np.ndarray, threshold: Threshold = None) -> Detections:
        """The objects in one picture with at least this score, in its own pixels, also with a panoptic model.

        Args:
            pixels: [H, W, 3] uint8.
        """
        return self.detect_all([pixels], threshold)[0]

    def detect_all(self, pictures: list[np.ndarray], threshold: Threshold = None) -> list[Detections]:
        """The same of several pictures, which go through the model together."""
        batch = batch_of(pictures, self.recipe)
        with COMPUTING:
            outputs = self.twin.predict(batch)
        return self.objects(outputs, batch, threshold)

    def objects(self, outputs: Outputs, batch: Batch, threshold: Threshold) -> list[Detections]:
        """The objects in each picture, from the outputs for its batch."""
        least = self.threshold_of(threshold)
        found = detections(outputs, batch.targets, min(least.values()) if isinstance(least, dict) else least)
        return [of_picture.rows(self.counts(of_picture, least)) for of_picture in found]

    def counts(self, found: Detections, least: float | dict[int, float]) -> np.ndarray:
        """[N] bool: which have a category, and the score that it needs; a class without a threshold needs the usual."""
        rows = np.isin(found.labels, self.classes.labels)
        if isinstance(least, dict):
            rows &= found.scores >= [least.get(label, self.threshold) for label in found.labels.tolist()]
        return rows

    def look(self, pixels: np.ndarray, threshold: Threshold = None, masks: bool = True) -> Look:
        """What `detect` finds, and where the model looks in the picture.

        Args:
            masks: False: leave out those of the objects, which take memory where there are many.
        """
        batch = batch_of([pixels], self.recipe)
        with COMPUTING:
            outputs, attention = self.twin.attend(batch)
        outputs = outputs if masks else replace(outputs, masks=None)
        (found,), (height, width) = self.objects(outputs, batch, threshold), batch.targets[0].size
        encoder = None if attention.encoder is None else attention.encoder[0]
        return Look(found, attention.decoder[0, found.queries], encoder,
                    (height / attention.stride, width / attention.stride))

    def segment(self, pixels: np.ndarray, threshold: float | None = None) -> Segmentation:
        """One segment a pixel, of those with more than this score.

        Args:
            pixels: [H, W, 3] uint8.
        """
        batch = batch_of([pixels], self.recipe)
        with COMPUTING:
            outputs = self.twin.predict(batch)
        return self.segments(outputs, batch, threshold)[0]

    def segments(self, outputs: Outputs, batch: Batch, threshold: float | None) -> list[Segmentation]:
        """The segments of each picture, from the outputs for its batch."""
        return panoptic(outputs, batch.targets, self.classes, self.threshold if threshold is None else threshold)


def settings(checkpoint: Checkpoint, origin: str | Path, file: str | None) -> Config:
    """A checkpoint's settings, or those of a config.json.

    Errors: DetrError if there are none.
    """
    config = read_config(file) if file else settings_of(checkpoint, str(origin))
    if config is None:
        raise DetrError(f"{origin}: holds no settings of the model.", "Pass its config.json with --config.")
    return config


def unnamed_classes(num_classes: int) -> Classes:
    """For a checkpoint that holds no class names, as the reference code writes them."""
    return Classes.of_categories([{"id": label, "name": f"class {label}"} for label in range(num_classes)])


def batch_of(pictures: list[np.ndarray], recipe: Recipe) -> Batch:
    """Pictures [H, W, 3] uint8 without annotations, scaled and normalised; their numbers count from 0."""
    samples = [recipe(unannotated(pixels), generator(0)) for pixels in pictures]
    records = [ImageRecord(number, "", *pixels.shape[:2]) for number, pixels in enumerate(pictures)]
    return collate(samples, records, [])
