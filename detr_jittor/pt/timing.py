"""How the PyTorch twin is timed: the settings that make PyTorch faster, what to wait for at the end of a measurement,
and single kernels."""

from collections.abc import Callable

import numpy as np
import torch

from detr_jittor.pt.twin import PyTorchTwin


def apply_setting(twin: PyTorchTwin, setting: str) -> None:
    """Set the twin up as PyTorch's users do who want it fast.

    Args: setting: "eager", as it comes; else with the fused AdamW, and "channels_last" or "compile" (one compilation
        for each shape). Autocast is the twin's own (`--precision bf16`).
    """
    if setting == "eager":
        return
    for group in twin.optimizer.adamw.param_groups:
        group["fused"] = True
    if setting == "compile":
        twin.model.compile(dynamic=False)
    else:
        twin.model.to(memory_format=torch.channels_last)


def finish() -> None:
    """Wait until all that was asked for is computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reference_primitives() -> int:
    """PyTorch does not tell."""
    return 0


def both_ways(function: Callable, inputs: list[np.ndarray], weights: list, gradient: np.ndarray,
              in_backbone: bool) -> Callable[[], list]:
    """A call that computes the function's value and the gradients of all its inputs and of the weights.

    Args: gradient: of the value; in_backbone: of no matter here.
    """
    places, gradient = [torch.tensor(x, requires_grad=True) for x in inputs], torch.tensor(gradient)

    def call() -> list:
        value = function(*places)
        return [value, *torch.autograd.grad(value, [*places, *weights], gradient)]

    return call


def load(module, weights: dict[str, np.ndarray]) -> None:
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})


def constant(array: np.ndarray):
    return torch.tensor(array)


def max_pool(x):
    return torch.nn.functional.max_pool2d(x, 3, 2, 1)
