"""Dropout whose masks are a function of (seed, step, place), so that both twins can drop the same elements."""

from detr_jittor.jt import kernels
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin import seeding

nn = jt.nn


class Dropout(nn.Module):
    """Zero each element with probability p and scale the others by 1 / (1 - p), in training mode.

    `key` is set for every step by `seed_dropout`.
    """

    def __init__(self, p: float):
        self.p = p
        self.key = 0

    def rate(self) -> float:
        """The probability that is in force: 0 in evaluation mode"""
        return self.p if self.is_training() else 0.0

    def execute(self, x):
        return kernels.dropout(x, self.rate(), self.key)


def seed_dropout(model: nn.Module, step_seed: int) -> None:
    """Give every dropout layer its key for one step."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.key = seeding.dropout_key(step_seed, seeding.place_id(name))
