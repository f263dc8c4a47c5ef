"""Augmentation for few pictures (`--augmentation strong`): other colours, and nearer or farther.

T objects. The ranges are ours; that they help is measured in docs/small-sets.md.
"""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance

from detr_jittor.data.transforms import MEAN, Sample, crop

COLOURS = 0.4  # by how much brightness, contrast and saturation change at most, as a factor 1 ± this
NEAREST, FARTHEST = 0.5, 1.4  # side of the cut-out by the picture's own; beyond 1 the picture gets a margin
MARGIN = tuple(round(255 * float(mean)) for mean in MEAN)  # its colour is that of ImageNet's mean


def recoloured(sample: Sample, random: np.random.Generator) -> Sample:
    """Brightness, contrast and saturation, each by a factor of its own."""
    image = sample.image
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(random.uniform(1 - COLOURS, 1 + COLOURS))
    return replace(sample, image=image)


def zoomed(sample: Sample, random: np.random.Generator) -> Sample:
    """A cut-out of the picture's shape from any place in it, or the picture anywhere in a larger one."""
    height, width = sample.size
    share = np.exp(random.uniform(np.log(NEAREST), np.log(FARTHEST)))
    down, across = max(1, round(height * share)), max(1, round(width * share))
    top, left = (int(random.integers(min(0, x), max(0, x), endpoint=True)) for x in (height - down, width - across))
    if share < 1:
        return crop(sample, top, left, down, across)
    image = Image.new("RGB", (across, down), MARGIN)
    image.paste(sample.image, (-left, -top))
    masks = sample.masks
    if masks is not None:
        masks = np.pad(masks, ((0, 0), (-top, down - height + top), (-left, across - width + left)))
    return replace(sample, image=image, boxes=sample.boxes - np.float32([left, top, left, top]), masks=masks)
