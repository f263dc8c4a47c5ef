"""Segments of COCO's panoptic format: pictures (PNG) whose colours are segment ids. T segments; h, w: their size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.data.decode import read_image
from detr_jittor.errors import DetrError

LARGEST_ID = 256**3 - 1


@dataclass(frozen=True)
class Segment:
    """The pixels of one colour."""

    file: str  # the PNG
    id: int  # red + 256 · green + 256² · blue


def segment_ids(file: str | Path) -> np.ndarray:
    """[H, W] int32 the segment of each pixel, 0 for none. Errors: DetrError if the file cannot be read."""
    red, green, blue = read_image(file).astype(np.int32).transpose(2, 0, 1)
    return red + 256 * green + 256**2 * blue


def write_segments(ids: np.ndarray, file: str | Path) -> None:
    """Write the segment of each pixel [H, W], numbers below 256³."""
    colours = np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1)  # [H, W, 3]
    Image.fromarray(colours.astype(np.uint8)).save(file)


def segment_masks(segments: list[Segment], h: int, w: int) -> np.ndarray:
    """[T, h, w] bool, of segments of one picture.

    Errors: DetrError if their file cannot be read, has another size, or lacks one of them.
    """
    file = segments[0].file
    ids = segment_ids(file)
    if ids.shape != (h, w):
        raise DetrError(f"{file}: has {ids.shape[1]}×{ids.shape[0]} pixels, but its picture has {w}×{h}.",
                        "Give segments of the picture's size.")
    masks = np.stack([ids == segment.id for segment in segments])
    if absent := [segment.id for segment, mask in zip(segments, masks) if not mask.any()]:
        raise DetrError(f"{file}: has no pixel of segment {absent[0]}.", "Correct the segments_info of this picture.")
    return masks
