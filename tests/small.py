"""One small model for all tests of the twins: Jittor compiles every operator at its first use, so they share shapes."""

from functools import lru_cache

import numpy as np

from detr_jittor.config.options import Config
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.synthetic import conditioned, random_batch
from detr_jittor.types import Batch, State

NUM_CLASSES = 11
SMALL = Config().replace(backbone="resnet18", backbone_norm="frozen", enc_layers=2, dec_layers=2, hidden_dim=64,
                         nheads=4, dim_feedforward=128, num_queries=20, num_classes=NUM_CLASSES,
                         dropout_masks="shared", device="cpu")
# Without the last stage of the backbone, which has three quarters of the weights: a step, a file and the start of a
# process take a third of the time. For tests of something else than the backbone.
SMALLER = SMALL.replace(backbone_stages=3)
WITH_MASKS = SMALL.replace(masks=True, hidden_dim=128, nheads=8)


def small_batch(seed: int, masks: bool = False) -> Batch:
    """Two pictures of different sizes, padded to 64 × 96."""
    return random_batch([(64, 80), (56, 96)], NUM_CLASSES, seed, masks=masks)


def small_state(twin, seed: int = 1) -> State:
    """Random weights for a twin, on which numerical comparisons mean something."""
    weights = conditioned_once(tuple((n, v.shape) for n, v in twin.weights().items()), seed)
    return State({n: v.copy() for n, v in weights.items()}, {})


@lru_cache(maxsize=4)
def conditioned_once(shapes: tuple, seed: int) -> dict[str, np.ndarray]:
    """Eleven million random numbers, of which a file of tests asks for the same again and again."""
    return conditioned(dict(shapes), seed)


def both_twins(config: Config) -> list:
    """Jittor's, which must be imported first, and PyTorch's."""
    return [load_twin(framework)(config, NUM_CLASSES) for framework in ("jittor", "pytorch")]


def begin_alike(twins: list) -> list:
    """Give all the same weights, and AdamW at its beginning."""
    state = small_state(twins[-1])
    zeros = {n: (np.zeros_like(state.model[n]),) * 2 for n in twins[-1].trained}
    for twin in twins:
        twin.load(State(state.model, zeros, 0))
    return twins


def relative(a, b) -> float:
    """Largest difference of two arrays, relative to the second's root mean square."""
    return float(np.abs(a - b).max() / np.sqrt(np.mean(np.square(b, dtype=np.float64))))
