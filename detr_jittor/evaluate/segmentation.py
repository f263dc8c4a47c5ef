"""From mask logits to masks in a picture's own pixels, and to one segment a pixel.

Q queries, C classes, K segments, h and w the size of the mask logits. A picture has three sizes: that on disk (H, W),
that after the transforms, and that padded to the batch, which is what the mask logits cover.
"""

import numpy as np
from PIL import Image

from detr_jittor.twin.interpolation import linear, nearest
from detr_jittor.types import Classes, Outputs, Segmentation, Target

THRESHOLD = 0.85  # a panoptic segment's score is above this
SMALLEST = 4  # pixels: segments of at most this area are dropped


def padded_size(targets: list[Target]) -> tuple[int, int]:
    """(height, width) to which the pictures of a batch are padded."""
    return tuple(max(t.size[axis] for t in targets) for axis in (0, 1))


def instance_masks(logits: np.ndarray, padded: tuple[int, int], target: Target) -> np.ndarray:
    """[Q, h, w] → [Q, H, W] bool: where the probability is above one half.

    As the reference code does: upsampled to the padded size, cut to the picture, resized to the size on disk (nearest).
    Only the pixels that the last step picks are computed.
    """
    rows, columns = (nearest(old, new) for old, new in zip(target.size, target.orig_size))
    masks = np.zeros((len(logits), *target.orig_size), bool)
    for mask, of_query in zip(masks, logits):
        mask[:] = upsampled(of_query, padded, rows, columns) > 0
    return masks


def upsampled(logits: np.ndarray, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """These rows and columns of [h, w] logits resized to `size`, bilinearly as PyTorch does → [rows, columns]"""
    (low, high, share), (left, right, part) = (
        linear(old, new, places) for old, new, places in zip(logits.shape, size, (rows, columns)))
    y = logits[low] * (1 - share)[:, None] + logits[high] * share[:, None]  # [rows, w]
    return y[:, left] * (1 - part) + y[:, right] * part


def panoptic(outputs: Outputs, targets: list[Target], classes: Classes,
             threshold: float = THRESHOLD) -> list[Segmentation]:
    """Every pixel of each picture to the query whose mask is strongest there.

    As the reference code does, except that the padding is cut off from the masks; there it counts as picture, which
    gives the same for batches of one, with which the published numbers were made.

    Args:
        outputs: the last decoder layer's. targets: for `size` and `orig_size`; annotations are not looked at.
        classes: queries of other labels are left out, like those that say "no object".
        threshold: queries with a larger score are looked at.
    """
    padded = padded_size(targets)
    powers = np.exp(outputs.logits - outputs.logits.max(axis=-1, keepdims=True))  # [B, Q, C + 1]
    probability = powers / powers.sum(axis=-1, keepdims=True)
    found = []
    for p, masks, target in zip(probability, outputs.masks, targets):
        said, scores = p.argmax(axis=-1), p.max(axis=-1)  # [Q]
        rows = np.flatnonzero((scores > threshold) & np.isin(said, classes.labels))  # [K]
        picked = [pillow_nearest(old, new) for old, new in zip(target.size, target.orig_size)]
        logits = np.zeros((len(rows), *target.orig_size), np.float32)  # [K, H, W]
        for place, row in enumerate(rows):
            logits[place] = upsampled(masks[row], padded, *picked)
        found.append(segmentation(logits, said[rows], scores[rows], rows, classes))
    return found


def segmentation(logits: np.ndarray, labels: np.ndarray, scores: np.ndarray, queries: np.ndarray,
                 classes: Classes) -> Segmentation:
    """The strongest of K masks at each pixel, without segments that are too small.

    Masks of the same stuff count as one at first, so that only the first of them stays; which is then drawn anew.

    Args: logits [K, H, W], labels [K], scores [K], queries [K].
    """
    if not len(labels):
        return Segmentation(np.zeros(logits.shape[1:], np.int64), labels, scores, queries)
    owner = logits.argmax(axis=0)  # [H, W]
    first = [int(np.argmax(labels == label)) if classes.is_stuff(label) else k
             for k, label in enumerate(labels.tolist())]
    large = np.bincount(np.array(first)[owner].ravel(), minlength=len(labels)) > SMALLEST  # [K]
    while not large.all():
        logits, labels, scores, queries = logits[large], labels[large], scores[large], queries[large]
        if not len(labels):
            return Segmentation(np.zeros(logits.shape[1:], np.int64), labels, scores, queries)
        owner = logits.argmax(axis=0)
        large = np.bincount(owner.ravel(), minlength=len(labels)) > SMALLEST
    return Segmentation(owner + 1, labels, scores, queries)


def pillow_nearest(old: int, new: int) -> np.ndarray:
    """[new] the places of an axis of `old` that Pillow's nearest-neighbour resize takes."""
    axis = Image.fromarray(np.arange(old, dtype=np.int32)[None])
    return np.asarray(axis.resize((new, 1), Image.Resampling.NEAREST))[0]
