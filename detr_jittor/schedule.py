"""The learning rate over time."""

from detr_jittor.config import OptimConfig


def lr_factor(optim: OptimConfig, epoch: int, step: int) -> float:
    """What both groups' learning rates are multiplied by in one training step.

    A tenth less after each `lr_drop` epochs (torch's StepLR, as the reference code), times a linear rise over the
    first `warmup_steps` steps of the run.

    Args: epoch, step: counted from 0, over the whole run.
    """
    rise = min(1.0, (step + 1) / optim.warmup_steps) if optim.warmup_steps else 1.0
    return 0.1 ** (epoch // optim.lr_drop) * rise
