"""The parts of a training step, timed one by one with the twins' own methods."""

import time
from collections.abc import Callable

import numpy as np

from detr_jittor.twin.contract import Twin
from detr_jittor.types import Batch

STAGES = ("forward", "matching", "losses", "backward", "optimizer")


def stages(twin: Twin, batch: Batch, seed: int, finish: Callable[[], None]) -> dict[str, float]:
    """Seconds of each part of one training step. Each part waits for its results, as a step as a whole does not.

    Args:
        finish: waits until all that was asked for is computed.
    """
    twin.prepare(seed)
    twin.zero_grad()
    twin.seed_dropout(seed)
    finish()
    times = [time.perf_counter()]

    def lap() -> None:
        finish()
        times.append(time.perf_counter())

    noisy = twin.copies(batch)
    outputs = twin.forward(batch, *noisy)
    lap()
    indices = twin.match(outputs, batch, noisy)
    lap()
    loss = twin.losses(outputs, batch, indices, noisy=noisy)[2]
    lap()
    twin.backward(loss)
    lap()
    twin.update(1.0)
    lap()
    return dict(zip(STAGES, np.diff(times).tolist()))
