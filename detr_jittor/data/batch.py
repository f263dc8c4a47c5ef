"""From records to a batch: read the pictures, transform them, pad them to a common size.

A `Request` holds all that this takes, so that any process can do it with the same result.
B pictures asked for, of which those that cannot be read are left out; T objects in a picture.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from detr_jittor.data.decode import read_image
from detr_jittor.data.masks import segmentation_masks
from detr_jittor.data.recipe import Recipe
from detr_jittor.data.records import Annotations, ImageRecord
from detr_jittor.data.transforms import Sample, has_area, write_normalized
from detr_jittor.errors import DetrError
from detr_jittor.twin import boxes as box
from detr_jittor.twin.seeding import generator
from detr_jittor.types import Batch, Target


@dataclass(frozen=True)
class Request:
    """A batch to be made."""

    images: list[ImageRecord]  # B; without annotations their sizes are not looked at
    annotations: list[Annotations] | None  # B; None: pictures to predict on, of whatever size
    recipe: Recipe
    seed: int
    epoch: int
    remove_difficult: bool = False


def make_batch(request: Request) -> Batch:
    samples, records, bad_images = [], [], []
    for image, annotations in zip(request.images, request.annotations or [None] * len(request.images)):
        try:
            sample = (unannotated(read_image(image.path)) if annotations is None else
                      read_sample(image, annotations, request.remove_difficult))
        except DetrError as error:
            bad_images.append(str(error))
            continue
        records.append(replace(image, height=sample.size[0], width=sample.size[1]))
        samples.append(request.recipe(sample, generator(request.seed, request.epoch, image.id)))
    return collate(samples, records, bad_images)


def unannotated(pixels: np.ndarray) -> Sample:
    """A picture [H, W, 3] uint8 of which nothing is known."""
    nothing = np.zeros(0, np.float32)
    return Sample(Image.fromarray(pixels), nothing.reshape(0, 4), nothing.astype(np.int64), nothing,
                  nothing.astype(bool))


def read_sample(image: ImageRecord, annotations: Annotations, remove_difficult: bool = False) -> Sample:
    """A picture as it is on disk, with the objects to train on: no crowds, and none whose box has no area.

    Errors: DetrError if the picture cannot be read or has not the size that the annotations say.
    """
    pixels = read_image(image.path, (image.height, image.width))
    if pixels.shape[:2] != (image.height, image.width):
        raise wrong_size(image, *pixels.shape[:2])
    left_out = annotations.iscrowd | (annotations.difficult if remove_difficult else False)
    annotations = annotations.rows(np.flatnonzero(~left_out))
    boxes = annotations.boxes.astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    boxes = np.clip(boxes, 0, np.float32([image.width, image.height] * 2))
    masks = None
    if annotations.segmentations is not None:
        masks = segmentation_masks(annotations.segmentations, image.height, image.width)
    sample = Sample(Image.fromarray(pixels), boxes, annotations.labels, annotations.area.astype(np.float32),
                    annotations.iscrowd, masks)
    return sample.keep(has_area(boxes))


def wrong_size(image: ImageRecord, height: int, width: int) -> DetrError:
    return DetrError(f"{image.path}: has {width}×{height} pixels, but image {image.id} says "
                     f"{image.width}×{image.height}.", "Correct width and height, and see that the boxes fit.")


def collate(samples: list[Sample], records: list[ImageRecord], bad_images: list[str]) -> Batch:
    """Pad at the bottom and on the right. Without any picture the batch is empty: images [0, 3, 0, 0]."""
    height = max((s.image.height for s in samples), default=0)
    width = max((s.image.width for s in samples), default=0)
    images = np.zeros((len(samples), 3, height, width), np.float32)
    padding = np.ones((len(samples), height, width), bool)
    targets = []
    for place, (sample, record) in enumerate(zip(samples, records)):
        h, w = sample.size
        write_normalized(sample.image, images[place, :, :h, :w])
        padding[place, :h, :w] = False
        targets.append(target_of(sample, record, height, width))
    return Batch(images, padding, targets, bad_images)


def target_of(sample: Sample, record: ImageRecord, height: int, width: int) -> Target:
    """The objects of a sample, masks padded to the batch's height and width."""
    h, w = sample.size
    masks = sample.masks
    if masks is not None and (h, w) != (height, width):
        masks = np.zeros((len(sample.masks), height, width), bool)
        masks[:, :h, :w] = sample.masks
        sample.masks = None  # they are large
    return Target(image_id=record.id, labels=sample.labels,
                  boxes=box.xyxy_to_cxcywh(sample.boxes) / np.float32([w, h, w, h]), area=sample.area,
                  iscrowd=sample.iscrowd, size=(h, w), orig_size=(record.height, record.width), masks=masks)
