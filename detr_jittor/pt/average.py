"""Moving averages of the weights (--ema)."""

import numpy as np
import torch


class Average:
    """value ← decay · value + (1 − decay) · weight, after each optimizer step."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        self.weights = weights
        self.values = {n: w.detach().clone() for n, w in weights.items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        for name, weight in self.weights.items():
            self.values[name].lerp_(weight, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their averages, in place."""
        for name, weight in self.weights.items():
            value = self.values[name].clone()
            self.values[name].copy_(weight)
            weight.copy_(value)

    def state(self) -> dict[str, np.ndarray]:
        return {n: v.cpu().numpy().copy() for n, v in self.values.items()}

    @torch.no_grad()
    def load(self, values: dict[str, np.ndarray]) -> None:
        """Take over averages; weights of other names are not looked at."""
        for name, value in self.values.items():
            value.copy_(torch.as_tensor(np.asarray(values[name])))
