"""AdamW in two groups with clipping by the global norm (arXiv 1711.05101)."""

import torch

from detr_jittor.config.options import OptimConfig
from detr_jittor.twin.parameters import in_backbone
from detr_jittor.twin.processes import ALONE, Processes


class Optimizer:
    """Weight decay is decoupled; the backbone has a learning rate of its own."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], config: OptimConfig,
                 processes: Processes = ALONE):
        self.parameters = parameters
        self.config = config
        self.processes = processes
        self.lrs = [config.lr, config.lr_backbone]
        groups = [[p for n, p in parameters.items() if in_backbone(n) == backbone] for backbone in (False, True)]
        self.steps = 0
        self.adamw = torch.optim.AdamW([{"params": g, "lr": lr} for g, lr in zip(groups, self.lrs)],
                                       weight_decay=config.weight_decay)

    def backward(self, loss) -> None:
        """Add the gradients of the next step's loss, or of that of a part of it."""
        loss.backward()

    def zero_grad(self) -> None:
        """Drop the gradients of the next step."""
        self.adamw.zero_grad()

    def step(self, lr_factor: float) -> float:
        """Average over the processes, clip, and take one step unless a gradient is not finite.

        Returns: the norm before clipping.
        """
        for group, lr in zip(self.adamw.param_groups, self.lrs):
            group["lr"] = lr * lr_factor
        used = [p for p in self.parameters.values() if p.grad is not None]
        for p, gradient in zip(used, self.processes.average([p.grad for p in used])):
            p.grad = gradient
        limit = self.config.clip_max_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), limit).item()
        if norm < float("inf"):
            self.adamw.step()
            self.steps += 1
        return norm

    def state(self) -> tuple[dict, int]:
        """{name: (exp_avg, exp_avg_sq)} in NumPy, and the number of steps taken"""
        moments = {n: self.adamw.state[p] for n, p in self.parameters.items() if p in self.adamw.state}
        numpy = {n: (m["exp_avg"].cpu().numpy().copy(), m["exp_avg_sq"].cpu().numpy().copy())
                 for n, m in moments.items()}
        return numpy, self.steps

    def load(self, moments: dict, steps: int) -> None:
        if not moments:
            return
        self.steps = steps
        for name, (exp_avg, exp_avg_sq) in moments.items():
            p = self.parameters[name]
            self.adamw.state[p] = {"step": torch.tensor(float(steps)),
                                   "exp_avg": torch.as_tensor(exp_avg, dtype=p.dtype, device=p.device).clone(),
                                   "exp_avg_sq": torch.as_tensor(exp_avg_sq, dtype=p.dtype, device=p.device).clone()}
