"""A trained model that finds objects or segments in single pictures. N detections."""

from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.checkpoint.architecture import classes_of, difference, num_classes, settings_of
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.check import check_sizes
from detr_jittor.config.options import Config, read_config
from detr_jittor.data.batch import collate
from detr_jittor.data.recipe import Recipe
from detr_jittor.data.records import ImageRecord
from detr_jittor.data.transforms import Sample
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.evaluate.segmentation import THRESHOLD, Segmentation, panoptic
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.seeding import generator
from detr_jittor.types import Batch, Classes, Detections, Look, Outputs, State


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

    def detect(self, pixels: np.ndarray, threshold: float | None = None) -> Detections:
        """What is found in one picture with at least this score, in its own pixels.

        Labels that stand for no category are left out, as COCO's evaluation does.

        Args:
            pixels: [H, W, 3] uint8.
        """
        batch = batch_of(pixels, self.recipe)
        return self.detected(self.twin.predict(batch), batch, threshold)

    def detected(self, outputs: Outputs, batch: Batch, threshold: float | None) -> Detections:
        """What `detect` says, from the outputs for its picture."""
        (found,) = detections(outputs, batch.targets, self.threshold if threshold is None else threshold)
        rows = np.isin(found.labels, self.classes.labels)  # [N]
        masks = None if found.masks is None else found.masks[rows]
        return Detections(found.image_id, found.scores[rows], found.labels[rows], found.boxes[rows], masks,
                          found.queries[rows])

    def look(self, pixels: np.ndarray, threshold: float | None = None) -> Look:
        """What `detect` finds, and where the model looks in the picture."""
        batch = batch_of(pixels, self.recipe)
        outputs, attention = self.twin.attend(batch)
        found, (height, width) = self.detected(outputs, batch, threshold), batch.targets[0].size
        encoder = None if attention.encoder is None else attention.encoder[0]
        return Look(found, attention.decoder[0, found.queries], encoder,
                    (height / attention.stride, width / attention.stride))

    def segment(self, pixels: np.ndarray, threshold: float | None = None) -> Segmentation:
        """One segment a pixel, of those with more than this score.

        Args:
            pixels: [H, W, 3] uint8.
        """
        batch = batch_of(pixels, self.recipe)
        threshold = self.threshold if threshold is None else threshold
        return panoptic(self.twin.predict(batch), batch.targets, self.classes, threshold)[0]


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


def batch_of(pixels: np.ndarray, recipe: Recipe) -> Batch:
    """One picture without annotations, scaled and normalised, as a batch of one."""
    height, width = pixels.shape[:2]
    nothing = np.zeros(0, np.float32)
    sample = Sample(Image.fromarray(pixels), nothing.reshape(0, 4), nothing.astype(np.int64), nothing,
                    nothing.astype(bool))
    return collate([recipe(sample, generator(0))], [ImageRecord(0, "", height, width)], [])
