"""Synthetic inputs: random weights under which a comparison means something, and random batches.

Weights as they are initialised would hide faults: biases are zero, norms the identity, all queries nearly alike.
"""

import numpy as np

from detr_jittor.twin import seeding
from detr_jittor.twin.parameters import as_last_layers, initial_values, is_norm
from detr_jittor.types import Batch, Target


def conditioned(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """{name: float32} of a whole model.

    Batch norms get random statistics and gains, small gains where a block ends, so that activations stay near 1
    through all stages; norms and biases of the transformer leave their identity; queries are spread sixfold, because
    matching has near-ties while they look alike.
    """
    weights = initial_values(shapes, seed)
    for name, value in weights.items():
        rng = seeding.generator(seed, seeding.place_id(f"conditioned {name}"))
        if name.endswith("running_mean"):
            value[...] = rng.normal(0, 0.2, value.shape)
        elif name.endswith("running_var"):
            value[...] = rng.uniform(0.5, 1.5, value.shape)
        elif is_norm(name) and name.endswith("weight"):
            value[...] = rng.uniform(*((0.1, 0.4) if ends_block(name, shapes) else (0.5, 1.5)), value.shape)
        elif "norm" in name and name.endswith("weight"):
            value[...] = rng.uniform(0.7, 1.3, value.shape)
        elif as_last_layers(name, shapes).startswith("box_delta.layers.2."):  # which start at zero
            value[...] = rng.normal(0, 0.1, value.shape)
        elif name.startswith(("query_content", "group_content", "label_embed")):
            value *= 50
        elif name.endswith("bias"):
            value[...] += rng.normal(0, 0.1, value.shape)
        elif name.endswith("query_embed.weight"):
            value *= 6
    return weights


def ends_block(name: str, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a batch norm is the last of a residual block: bn3 of a bottleneck, bn2 of a basic block."""
    return ".bn3." in name or (".bn2." in name and name.replace("bn2", "bn3") not in shapes)


def random_batch(sizes: list[tuple[int, int]], num_classes: int, seed: int, objects: int = 4,
                 masks: bool = False) -> Batch:
    """Pictures of noise with random objects, padded to a common size.

    Args:
        sizes: (height, width) of each picture.
        objects: the most objects of a picture; the last picture has as many, the first at least one less.
        masks: give each object the pixels of its box, with holes.
    """
    rng = seeding.generator(seed, seeding.place_id("random batch"))
    h, w = (max(size[i] for size in sizes) for i in (0, 1))
    images = np.zeros((len(sizes), 3, h, w), np.float32)
    mask = np.ones((len(sizes), h, w), bool)
    targets = []
    for i, (height, width) in enumerate(sizes):
        images[i, :, :height, :width] = rng.standard_normal((3, height, width))
        mask[i, :height, :width] = False
        count = objects if i == len(sizes) - 1 else int(rng.integers(1, objects))
        size = rng.uniform(0.1, 0.4, (count, 2))
        centre = rng.uniform(size / 2, 1 - size / 2)
        boxes = np.concatenate([centre, size], 1).astype(np.float32)  # [T, 4]
        targets.append(Target(image_id=i + 1, labels=rng.integers(0, num_classes, count), boxes=boxes,
                              area=boxes[:, 2] * boxes[:, 3] * np.float32(height * width),
                              iscrowd=np.zeros(count, bool), size=(height, width), orig_size=(height, width)))
    if masks:
        for target in targets:
            target.masks = random_masks(target, h, w, rng)
    return Batch(images, mask, targets)


def random_masks(target: Target, h: int, w: int, rng: np.random.Generator) -> np.ndarray:
    """[T, H, W] bool"""
    y, x = (np.arange(n, dtype=np.float32)[None] + 0.5 for n in (h, w))  # [1, H], [1, W]
    cx, cy, bw, bh = target.boxes.T[..., None] * np.array([*target.size[::-1]] * 2, np.float32)[:, None, None]
    inside = (np.abs(y - cy) < bh / 2)[:, :, None] & (np.abs(x - cx) < bw / 2)[:, None, :]
    return inside & (rng.random(inside.shape) < 0.8)
