"""Segmentations as COCO writes them (polygons, run lengths, segments) → masks. h, w: the picture's height and width."""

import numpy as np

from detr_jittor.data.columns import is_number
from detr_jittor.data.decode import LARGEST
from detr_jittor.data.segments import Segment, segment_masks


class Rectangle(list):
    """The polygon of a box, of an object that has no outline."""

    @staticmethod
    def of_box(box: list[float]) -> "Rectangle":
        x, y, w, h = box
        return Rectangle([[x, y, x + w, y, x + w, y + h, x, y + h]])


def drawable(polygon, h: int, w: int) -> bool:
    """Three corners or more, none of them far outside the picture (drawing takes time and memory by length)."""
    far = max(h, w)
    return (type(polygon) is list and len(polygon) >= 6 and len(polygon) % 2 == 0
            and all(is_number(v) and -far <= v <= 2 * far for v in polygon))


def segmentation_fault(segmentation, h: int, w: int) -> str:
    """What is wrong with a segmentation, in words; empty if nothing is.

    An object of several polygons may have some that cannot be drawn (less than three corners), but not only such.
    """
    if type(segmentation) is list:
        if any(drawable(polygon, h, w) for polygon in segmentation):
            return ""
        return "segmentation has no polygon of three corners or more within the picture"
    if type(segmentation) is not dict or not {"size", "counts"} <= segmentation.keys():
        return "segmentation is neither a list of polygons nor run lengths (size, counts)"
    if segmentation["size"] != [h, w]:
        return "the run lengths' size is not that of the picture"
    if h * w > LARGEST:  # the mask would take a byte a pixel
        return "the run lengths are of a picture larger than any that is read"
    try:
        segmentation_mask(segmentation, h, w)
    except (ValueError, RuntimeError, TypeError):  # what the library raises for malformed run lengths
        return "the run lengths are malformed"
    return ""


def segmentation_mask(segmentation: list | dict, h: int, w: int) -> np.ndarray:
    """[h, w] bool: the pixels of an object. The segmentation is one in which `segmentation_fault` found nothing."""
    from faster_coco_eval.core import mask  # only who uses masks pays for this import

    if isinstance(segmentation, list):
        runs = mask.merge(mask.frPyObjects([p for p in segmentation if drawable(p, h, w)], h, w))
    elif type(segmentation["counts"]) is list:
        runs = mask.frPyObjects(segmentation, h, w)
    else:
        runs = segmentation
    return mask.decode(runs).astype(bool)


def run_lengths(mask: np.ndarray) -> dict:
    """[h, w] bool → COCO's run lengths, which JSON can hold."""
    from faster_coco_eval.core import mask as rle

    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": runs["counts"].decode("ascii")}


def segmentation_masks(segmentations: list, h: int, w: int) -> np.ndarray:
    """[T, h, w] bool, one mask an object. Errors: DetrError for segments that cannot be read."""
    if segmentations and isinstance(segmentations[0], Segment):
        return segment_masks(segmentations, h, w)
    masks = np.zeros((len(segmentations), h, w), bool)
    for mask, segmentation in zip(masks, segmentations):
        mask[:] = segmentation_mask(segmentation, h, w)
    return masks
