"""How the Jittor twin is timed: what to wait for at the end of a measurement, and single kernels."""

from collections.abc import Callable

import numpy as np

from detr_jittor.jt import kernels
from detr_jittor.jt.kernels import fast
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.twin import JittorTwin


def apply_setting(twin: JittorTwin, setting: str) -> None:
    """Jittor has no settings to choose from: what makes it fast is always on."""


def finish() -> None:
    """Wait until all that was asked for is computed."""
    jt.sync_all(True)


def reference_primitives() -> int:
    """Layers for whose shape the kernels have no quick code"""
    return fast.reference_primitives() if kernels.in_force and kernels.in_force.module is fast else 0


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
