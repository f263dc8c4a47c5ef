"""A trained model that finds objects or segments in pictures. N detections."""

import threading
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
        self.recipe = Recipe("none", config.data.min_size, config.data.max_size)

    def find(self, batch: Batch, threshold: float | None = None) -> list[Detections] | list[Segmentation]:
        """What is found in each picture of a batch: segments with a panoptic model, else objects.

        Labels that stand for no category are left out, as COCO's evaluation does. Any number of threads may ask at
        the same time; one after the other is served.

        Args:
            threshold: the smallest score of what is found (of segments: the largest that is left out); None: the usual.
        """
        with COMPUTING:
            outputs = self.twin.predict(batch)
        return self.segments(outputs, batch, threshold) if self.is_panoptic else self.objects(outputs, batch, threshold)

    def detect(self, pixels: np.ndarray, threshold: float | None = None) -> Detections:
        """The objects in one picture with at least this score, in its own pixels, also with a panoptic model.

        Args:
            pixels: [H, W, 3] uint8.
        """
        batch = batch_of([pixels], self.recipe)
        with COMPUTING:
            outputs = self.twin.predict(batch)
        return self.objects(outputs, batch, threshold)[0]

    def objects(self, outputs: Outputs, batch: Batch, threshold: float | None) -> list[Detections]:
        """The objects in each picture, from the outputs for its batch."""
        found = detections(outputs, batch.targets, self.threshold if threshold is None else threshold)
        return [of_picture.rows(np.isin(of_picture.labels, self.classes.labels)) for of_picture in found]

    def look(self, pixels: np.ndarray, threshold: float | None = None) -> Look:
        """What `detect` finds, and where the model looks in the picture."""
        batch = batch_of([pixels], self.recipe)
        with COMPUTING:
            outputs, attention = self.twin.attend(batch)
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
