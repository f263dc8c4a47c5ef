"""The models whose float64 results are kept in tests/golden. Knows no framework."""

import numpy as np
from small import SMALL, WITH_MASKS, small_batch

from detr_jittor.twin.synthetic import conditioned
from detr_jittor.types import Batch

VARIANTS = {
    "r18": SMALL,
    "learned-prenorm": SMALL.replace(position_embedding="learned", pre_norm=True),
    "dc5": SMALL.replace(dilation=True),
    "masks": WITH_MASKS,
}
BATCH = small_batch(3, masks=True)
SEED = 7  # of the step, for the dropout masks
PICKED = 16  # elements of each gradient that are kept


def weights(twin) -> dict[str, np.ndarray]:
    return conditioned({n: v.shape for n, v in twin.state().model.items()}, seed=1)


def pick(gradient: np.ndarray) -> np.ndarray:
    """[PICKED] elements, evenly spread; repeated where there are fewer."""
    return gradient.ravel()[np.linspace(0, gradient.size - 1, PICKED).astype(int)]


def batch_arrays(batch: Batch) -> dict[str, np.ndarray]:
    arrays = {"images": batch.images, "mask": batch.mask}
    for i, target in enumerate(batch.targets):
        arrays |= {f"labels {i}": target.labels, f"boxes {i}": target.boxes, f"masks {i}": target.masks}
    return arrays
