"""Augmentation and scaling, as the reference code does them (facebookresearch/detr, datasets/transforms.py).

T objects; a picture's size is (height, width). Pillow does every resize: bilinear and antialiased.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from detr_jittor.twin import boxes as box
from detr_jittor.twin import interpolation

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, by colour
STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass
class Sample:
    """A picture with its objects, in pixels."""

    image: Image.Image  # RGB
    boxes: np.ndarray  # [T, 4] float32, (x1, y1, x2, y2)
    labels: np.ndarray  # [T] int64
    area: np.ndarray  # [T] float32
    iscrowd: np.ndarray  # [T] bool
    masks: np.ndarray | None = None  # [T, H, W] bool

    @property
    def size(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    def keep(self, rows: np.ndarray) -> "Sample":
        """Only the objects whose row [T] is true."""
        return replace(self, boxes=self.boxes[rows], labels=self.labels[rows], area=self.area[rows],
                       iscrowd=self.iscrowd[rows], masks=None if self.masks is None else self.masks[rows])


def hflip(sample: Sample) -> Sample:
    width = sample.image.width
    flipped = sample.boxes[:, [2, 1, 0, 3]] * np.float32([-1, 1, -1, 1]) + np.float32([width, 0, width, 0])
    return replace(sample, image=sample.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), boxes=flipped,
                   masks=None if sample.masks is None else sample.masks[:, :, ::-1])


def size_for(height: int, width: int, short: int, longest: int | None = None) -> tuple[int, int]:
    """The size whose short side is `short`, unless its long side would pass `longest`: then about that.

    The rounding is the reference's, which can pass `longest` by less than one row of the aspect ratio. Only where it
    would make a side of less than one pixel (the reference fails there) the side is 1 and the other at most `longest`.
    """
    if longest is not None:
        low, high = float(min(height, width)), float(max(height, width))
        if high / low * short > longest:
            short = round(longest * low / high)
            if short < 1:
                return (1, longest) if height < width else (longest, 1)
    if min(height, width) == short:
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    height, width = size
    across, down = width / sample.image.width, height / sample.image.height
    return replace(
        sample, image=sample.image.resize((width, height), Image.Resampling.BILINEAR),
        boxes=sample.boxes * np.float32([across, down, across, down]), area=sample.area * np.float32(across * down),
        masks=None if sample.masks is None else resize_masks(sample.masks, height, width))


def resize_masks(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """[T, H, W] → [T, height, width], nearest pixel."""
    rows, columns = map(interpolation.nearest, masks.shape[1:], (height, width))
    return masks[:, rows[:, None], columns]


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Cut out a part. Boxes are clipped to it and become the new areas; objects without any box left are dropped."""
    moved = sample.boxes - np.float32([left, top, left, top])
    clipped = np.clip(moved, 0, np.float32([width, height, width, height]))
    masks = None if sample.masks is None else sample.masks[:, top:top + height, left:left + width]
    cut = replace(sample, image=sample.image.crop((left, top, left + width, top + height)), boxes=clipped,
                  area=box.area(clipped), masks=masks)
    return cut.keep(has_area(clipped))


def has_area(boxes: np.ndarray) -> np.ndarray:
    """[T, 4] (x1, y1, x2, y2) → [T] bool."""
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def normalized(channel: int) -> np.ndarray:
    """[256] float32: what a pixel value becomes in one colour, in the order of operations of the reference."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    return (values - MEAN[channel]) / STD[channel]


NORMALIZED = [normalized(channel) for channel in range(3)]


def write_normalized(image: Image.Image, out: np.ndarray) -> None:
    """Write a picture into `out` [3, H, W] float32, normalised with ImageNet's mean and deviation."""
    pixels = np.asarray(image)  # [H, W, 3] uint8
    for channel, table in enumerate(NORMALIZED):
        # A table of 256 values costs less than the arithmetic, and "clip" spares NumPy a copy.
        np.take(table, pixels[:, :, channel], out=out[channel], mode="clip")
