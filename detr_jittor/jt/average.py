"""Moving averages of the weights (--ema)."""

import numpy as np

from detr_jittor.jt.setup.runtime import jt


class Average:
    """value ← decay · value + (1 − decay) · weight, after each optimizer step."""

    def __init__(self, weights: dict[str, jt.Var]):
        self.weights = weights
        self.values = {n: jt.array(w.numpy()).stop_grad() for n, w in weights.items()}

    def update(self, decay: float) -> None:
        for name, weight in self.weights.items():
            value = self.values[name]
            value.update((value + (weight.detach() - value) * (1 - decay)).stop_grad())
        jt.sync_all()

    def swap(self) -> None:
        """Exchange the weights and their averages, in place."""
        for name, weight in self.weights.items():
            # TRAP(jittor): checkpoint-aliases. A Var that is handed over may bring its stop_grad along: so NumPy
            value, stopped = self.values[name].numpy(), weight.is_stop_grad()
            self.values[name].update(jt.array(weight.numpy()).stop_grad())
            weight.update(jt.array(value))
            if stopped:
                weight.stop_grad()
        jt.sync_all()

    def state(self) -> dict[str, np.ndarray]:
        return {n: v.numpy() for n, v in self.values.items()}

    def load(self, values: dict[str, np.ndarray]) -> None:
        """Take over averages; weights of other names are not looked at."""
        for name, value in self.values.items():
            value.update(jt.array(np.array(values[name], np.float32)).stop_grad())
