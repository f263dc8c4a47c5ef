"""How the PyTorch twin is timed: the settings that make PyTorch faster, what to wait for at the end of a measurement,
the parts of a training step, and single kernels."""

import time
from collections.abc import Callable

import numpy as np
import torch

from detr_jittor.pt.dropout import seed_dropout
from detr_jittor.pt.twin import PyTorchTwin
from detr_jittor.twin.matching import match
from detr_jittor.types import Batch

STAGES = ("forward", "matching", "losses", "backward", "optimizer")


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


def stages(twin: PyTorchTwin, batch: Batch, seed: int) -> dict[str, float]:
    """Seconds of each part of one training step. Each part waits for its results, as a step as a whole does not."""
    twin.model.train()
    torch.manual_seed(seed)
    seed_dropout(twin.model, None)
    finish()
    times = [time.perf_counter()]

    logits, boxes, *_ = twin.forward(batch)
    lap(times)

    with torch.no_grad():
        labels = np.concatenate([t.labels for t in batch.targets])
        targets = torch.as_tensor(np.concatenate([t.boxes for t in batch.targets]), device=boxes.device)
        cost = twin.criterion.matching_cost(logits, boxes, labels, targets)
        indices = match(cost.cpu().numpy(), [len(t.labels) for t in batch.targets])
    lap(times)

    names, values, _ = twin.criterion(logits, boxes, batch.targets, indices)
    loss = (values * torch.as_tensor(twin.criterion.weights(names), device=values.device)).sum()
    lap(times)

    o = twin.optimizer
    o.adamw.zero_grad()
    loss.backward()
    lap(times)

    torch.nn.utils.clip_grad_norm_(twin.trained.values(), o.config.clip_max_norm or float("inf")).item()
    o.adamw.step()
    lap(times)
    return dict(zip(STAGES, np.diff(times).tolist()))


def lap(times: list[float]) -> None:
    finish()
    times.append(time.perf_counter())


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
