"""How the Jittor twin is timed: what to wait for at the end of a measurement, the parts of a training step, and single
kernels."""

import time
from collections.abc import Callable

import numpy as np

from detr_jittor.jt import kernels
from detr_jittor.jt.capture import prepare
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.twin.matching import match
from detr_jittor.types import Batch

STAGES = ("forward", "matching", "losses", "backward", "optimizer")


def apply_setting(twin: JittorTwin, setting: str) -> None:
    """Jittor has no settings to choose from: what makes it fast is always on."""


def finish() -> None:
    """Wait until all that was asked for is computed."""
    jt.sync_all(True)


def stages(twin: JittorTwin, batch: Batch, seed: int) -> dict[str, float]:
    """Seconds of each part of one training step. Each part waits for its results, as a step as a whole does not."""
    prepare(twin, seed)
    finish()
    times = [time.perf_counter()]

    logits, boxes, *_ = twin.forward(batch)
    lap(times)

    with jt.no_grad():
        labels = np.concatenate([t.labels for t in batch.targets])
        targets = jt.array(np.concatenate([t.boxes for t in batch.targets]))
        cost = twin.criterion.matching_cost(logits, boxes, labels, targets)
        indices = match(cost.numpy(), [len(t.labels) for t in batch.targets])
    lap(times)

    names, values, _ = twin.criterion(logits, boxes, batch.targets, indices)
    loss = (values * jt.array(twin.criterion.weights(names))).sum()
    lap(times)

    o, parameters = twin.optimizer, list(twin.trained.values())
    gradients = jt.grad(loss, parameters)
    lap(times)

    kernels.adamw_step(parameters, gradients, o.exp_avg, o.exp_avg_sq, o.lrs, o.config.weight_decay, o.steps + 1,
                       o.config.clip_max_norm)
    o.steps += 1
    lap(times)
    return dict(zip(STAGES, np.diff(times).tolist()))


def lap(times: list[float]) -> None:
    finish()
    times.append(time.perf_counter())


class Gradient(jt.Function):
    """Hands a gradient to a Var, without the arithmetic of a loss."""

    def execute(self, value, gradient):
        self.gradient = gradient
        return jt.zeros(1)

    def grad(self, _):
        return self.gradient, None


def both_ways(function: Callable, inputs: list[np.ndarray], weights: list, gradient: np.ndarray,
              in_backbone: bool) -> Callable[[], list]:
    """A call that computes the function's value and the gradients of all its inputs and of the weights.

    Args: gradient: of the value; in_backbone: whether the function is called between `kernels.enter` and `leave`.
    """
    *places, gradient = (jt.array(x) for x in (*inputs, gradient))
    if in_backbone:
        *places, gradient = (kernels.enter(x) for x in (*places, gradient))
    places, gradient = [x.detach().start_grad() for x in places], gradient.detach()
    jt.sync_all()

    def call() -> list:
        value = function(*places)
        results = [value, *jt.grad(Gradient.apply(value, gradient), [*places, *weights])]
        jt.sync(results)
        return results

    return call


def load(module, weights: dict[str, np.ndarray]) -> None:
    module.load_parameters(weights)


def constant(array: np.ndarray):
    return jt.array(array)


def max_pool(x):
    return kernels.max_pool(x)
