"""AdamW in two groups with clipping by the global norm (arXiv 1711.05101)."""

import numpy as np

from detr_jittor.config.options import OptimConfig
from detr_jittor.jt import kernels
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin.parameters import in_backbone
from detr_jittor.twin.processes import ALONE, Processes


class Optimizer:
    """Weight decay is decoupled; the backbone has a learning rate of its own.

    TRAP(jittor): step-counts-backward. Optimizer.n_step counts backward calls, so that gradient accumulation would
    skew the bias correction; here `steps` counts updates.
    """

    def __init__(self, parameters: dict[str, jt.Var], config: OptimConfig, processes: Processes = ALONE):
        self.parameters = parameters
        self.config = config
        self.processes = processes
        self.lrs = [config.lr_backbone if in_backbone(n) else config.lr for n in parameters]
        self.exp_avg = [jt.zeros_like(p).stop_grad() for p in parameters.values()]
        self.exp_avg_sq = [jt.zeros_like(p).stop_grad() for p in parameters.values()]
        self.added = []  # gradients of the next step, or of those of its parts that are done
        self.steps = 0

    def backward(self, loss) -> None:
        """Add the gradients of the next step's loss, or of that of a part of it."""
        parameters = list(self.parameters.values())
        gradients = jt.grad(loss, parameters)
        self.added = [a + b for a, b in zip(self.added, gradients)] if self.added else gradients
        if self.config.accumulate > 1:
            jt.sync(self.added)  # computed now, so that a part's graph goes before the next one's comes

    def zero_grad(self) -> None:
        """Drop the gradients of the next step."""
        self.added = []

    def step(self, lr_factor: float) -> float:
        """Average over the processes, clip, and take one step unless a gradient is not finite.

        Returns: the norm before clipping.
        """
        parameters, gradients = list(self.parameters.values()), self.processes.average(self.added)
        self.added = []
        lrs = [lr * lr_factor for lr in self.lrs]
        norm = kernels.adamw_step(parameters, gradients, self.exp_avg, self.exp_avg_sq, lrs,
                                  self.config.weight_decay, self.steps + 1, self.config.clip_max_norm)
        self.steps += bool(np.isfinite(norm))
        return norm

    def state(self) -> tuple[dict, int]:
        """{name: (exp_avg, exp_avg_sq)} in NumPy, and the number of steps taken"""
        if self.steps == 0:
            return {}, 0
        moments = zip(self.parameters, self.exp_avg, self.exp_avg_sq)
        return {n: (m.numpy(), v.numpy()) for n, m, v in moments}, self.steps

    def load(self, moments: dict, steps: int) -> None:
        if not moments:
            return
        for name, m, v in zip(self.parameters, self.exp_avg, self.exp_avg_sq):
            m.assign(jt.array(moments[name][0]).stop_grad())
            v.assign(jt.array(moments[name][1]).stop_grad())
        self.steps = steps
