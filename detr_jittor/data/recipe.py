"""What happens to a picture on its way into a batch: augmentation, then scaling. "full" is that of the reference code
(facebookresearch/detr, datasets/coco.py)."""

from dataclasses import dataclass

import numpy as np

from detr_jittor.data.transforms import Sample, crop, hflip, resize, size_for
from detr_jittor.errors import DetrError

# Sizes in pixels for pictures of 800; with another --min_size all shrink alike.
SCALES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
SCALES_BEFORE_CROP = (400, 500, 600)
CROP = (384, 600)
LONGEST = 16_384  # pixels; what would grow longer before the crop is a strip, and takes the way without a crop


@dataclass(frozen=True)
class Recipe:
    """How pictures are transformed. The draws come from the generator that each call is given."""

    augmentation: str  # "full", "flip" or "none"
    min_size: int  # short side in pixels
    max_size: int  # longest side in pixels

    def __post_init__(self):
        if not 1 <= self.min_size <= self.max_size:
            raise DetrError(f"--min_size {self.min_size} --max_size {self.max_size}: these sizes cannot be.",
                            "Give a --min_size from 1 and a --max_size that is not smaller.")

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.augmentation == "none":
            return self.scaled(sample, self.min_size)
        if random.random() < 0.5:
            sample = hflip(sample)
        if self.augmentation == "flip":
            return self.scaled(sample, self.min_size)
        if random.random() >= 0.5:
            sample = self.randomly_cropped(sample, random)
        return self.scaled(sample, self.shrunk(random.choice(SCALES)))

    def shrunk(self, pixels: int) -> int:
        """A size that holds for pictures of 800, for pictures of `min_size`."""
        return max(1, round(int(pixels) * self.min_size / SCALES[-1]))

    def scaled(self, sample: Sample, short: int) -> Sample:
        return resize(sample, size_for(*sample.size, short, self.max_size))

    def randomly_cropped(self, sample: Sample, random: np.random.Generator) -> Sample:
        size = size_for(*sample.size, self.shrunk(random.choice(SCALES_BEFORE_CROP)))
        if max(size) > LONGEST:
            return sample
        sample = resize(sample, size)
        low, high = map(self.shrunk, CROP)
        width = random.integers(low, min(sample.image.width, high), endpoint=True)
        height = random.integers(low, min(sample.image.height, high), endpoint=True)
        top = random.integers(0, sample.image.height - height, endpoint=True)
        left = random.integers(0, sample.image.width - width, endpoint=True)
        return crop(sample, int(top), int(left), int(height), int(width))
