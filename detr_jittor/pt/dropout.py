"""Dropout whose masks are a function of (seed, step, place), so that both twins can drop the same elements."""

import torch
import torch.nn.functional as F
from torch import nn

from detr_jittor.twin import seeding


def mix32(x: torch.Tensor) -> torch.Tensor:
    """`seeding.mix32` on uint32 numbers held as int64: products wrap around, the low 32 bits stay right."""
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


def keep_mask(key: int, p: float, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """`seeding.keep_mask`: [*shape] bool, true where an element is kept."""
    index = torch.arange(shape.numel(), device=device)
    return (mix32(((index * 0x9E3779B9) & 0xFFFFFFFF) ^ key) >= int(p * 4294967296.0)).view(shape)


class Dropout(nn.Module):
    """Zero each element with probability p and scale the others by 1 / (1 - p), in training mode.

    `key` is set for every step by `seed_dropout`; without one, PyTorch's own random numbers serve.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.key = None

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        if self.key is None:
            return F.dropout(x, self.p)
        return x * keep_mask(self.key, self.p, x.shape, x.device) * (1 / (1 - self.p))


def seed_dropout(model: nn.Module, step_seed: int | None) -> None:
    """Give every dropout layer its key for one step; None: PyTorch's own random numbers."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.key = None if step_seed is None else seeding.dropout_key(step_seed, seeding.place_id(name))
