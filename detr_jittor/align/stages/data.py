"""Stage 3: both twins see the same pixels, boxes, masks and sizes.

Each process reads the dataset with a loader of its own; the batches must agree bit for bit, also after they have been
handed to the framework. The evaluation batch is held against Pillow's own resize of the files.
"""

from itertools import islice

import numpy as np
from PIL import Image, ImageOps

from detr_jittor.align.measure import Item, exact
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import JITTOR, PYTORCH, Trial
from detr_jittor.types import Batch

BATCHES = 2  # compared, of each split
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def run(trial: Trial) -> Stage:
    items = []
    for split, train in (("train", True), ("val", False)):
        args = (trial.config, split, train, BATCHES)
        jittor = trial.ask(JITTOR, "read_batches", *args)
        pytorch = trial.once(f"batches {split}", PYTORCH, "read_batches", *args)
        for i, (a, b) in enumerate(zip(jittor, pytorch, strict=True)):
            items += batch_items(f"{split} batch {i}", a, b)
    jittor = trial.ask(JITTOR, "held", trial.batch)
    pytorch = trial.once("held", PYTORCH, "held", trial.batch)
    items += [exact(f"{name} in the framework", jittor[name], pytorch[name]) for name in pytorch]
    batch = next(islice(trial.batches("val"), 1))
    items += [pixels_item(trial, batch, i) for i in range(len(batch))]
    return Stage("data", items, ["compared bit by bit, and the evaluation pixels with Pillow's bilinear resize"])


def batch_items(name: str, a: Batch, b: Batch) -> list[Item]:
    items = [exact(f"{name}: pixels", a.images, b.images), exact(f"{name}: padding mask", a.mask, b.mask)]
    for x, y in zip(a.targets, b.targets, strict=True):
        items += [exact(f"{name}, picture {x.image_id}: {field}", getattr(x, field), getattr(y, field))
                  for field in ("image_id", "labels", "boxes", "area", "iscrowd", "size", "orig_size")]
    return items


def pixels_item(trial: Trial, batch: Batch, i: int) -> Item:
    """A picture of a batch against the file, read and resized here."""
    target = batch.targets[i]
    height, width = target.size
    file = next(image.path for image in trial.index.images if image.id == target.image_id)
    with Image.open(file) as image:
        upright = ImageOps.exif_transpose(image)
        image = upright if upright.size == target.orig_size[::-1] else image
        small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    wanted = (np.asarray(small, np.float64) / 255 - MEAN) / STD  # [H, W, 3]
    error = np.abs(batch.images[i, :, :height, :width] - wanted.transpose(2, 0, 1)).max()
    return Item(f"picture {target.image_id} against Pillow", bool(error <= tolerance("pixels")), (height, width),
                note=f"largest difference {error:.1e}")
