"""Masks and segments, tinted over a picture. N masks or segments; H, W of the picture."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageColor
from scipy import ndimage

from detr_jittor.report.pictures import COLOURS, draw_labels, enlarged
from detr_jittor.types import Segmentation

TINT = 0.45  # share of the colour within a mask
RIM = 0.85  # and along its edge


def draw_masks(image: Image.Image, masks: Iterable[np.ndarray], colours: list[str]) -> Image.Image:
    """A copy of the picture with masks tinted and their edges drawn; where several lie, the best alone is seen.

    Args:
        masks: [N] of [H, W] bool, the best first: it lies on top.
        colours: [N].
    """
    ground = np.asarray(image.convert("RGB"), np.float32)  # [H, W, 3]
    pixels = ground.copy()
    width = max(1, round((image.width * image.height) ** 0.5 / 300))
    for mask, colour in reversed(list(zip(masks, colours))):
        share = np.where(ndimage.binary_erosion(mask, iterations=width), TINT, RIM)[mask][:, None]
        pixels[mask] = ground[mask] * (1 - share) + np.float32(ImageColor.getrgb(colour)) * share
    return Image.fromarray(pixels.round().astype(np.uint8))


def draw_segmentation(image: Image.Image, found: Segmentation, names: dict[int, str]) -> Image.Image:
    """A copy of the picture with its segments tinted and named, each in a colour of its own.

    Args:
        names: label → class name.
    """
    masks = [found.numbers == k + 1 for k in range(len(found.labels))]
    colours = [COLOURS[k % len(COLOURS)] for k in range(len(masks))]
    picture, factor = enlarged(draw_masks(image, masks, colours))
    frames = []
    for mask in masks:
        y, x = np.unravel_index(ndimage.distance_transform_edt(np.pad(mask, 1)).argmax(), np.array(mask.shape) + 2)
        frames.append(((x - 0.5) * factor, (y - 0.5) * factor) * 2)  # the point deepest inside
    texts = [f"{names.get(label, f'class {label}')} {score:.2f}"
             for label, score in zip(found.labels.tolist(), found.scores.tolist())]
    draw_labels(picture, frames, texts, colours)
    return picture
