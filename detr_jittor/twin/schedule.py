"""What changes over time: the learning rate, and how far moving averages look back."""

import math

from detr_jittor.config.options import OptimConfig


def lr_factor(optim: OptimConfig, epoch: int, step: int, share: float = 0.0) -> float:
    """What both groups' learning rates are multiplied by in one training step.

    step: a tenth after each `lr_drop` epochs (torch's StepLR, as the reference code). cosine: from 1 to 0 over all
    epochs (arXiv 1608.03983 without restarts). Either times a linear rise over the first `warmup_steps` steps of the
    run.

    Args: epoch, step: counted from 0, over the whole run; share: of this epoch that is done, 0 … 1.
    """
    rise = min(1.0, (step + 1) / optim.warmup_steps) if optim.warmup_steps else 1.0
    if optim.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch + share) / optim.epochs))) * rise
    return 0.1 ** (epoch // optim.lr_drop) * rise


def average_decay(steps: int) -> float:
    """What stays of the moving averages of the weights in an optimizer step, the `steps`-th from 1.

    It rises to .999, so that a run of some hundred steps is not averaged with its start.
    """
    return min(0.999, (1 + steps) / (10 + steps))
