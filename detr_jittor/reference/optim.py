"""One optimizer step: clipping by the norm of all gradients together, then AdamW."""

import math

import numpy as np


def clip_factor(gradients: list[np.ndarray], max_norm: float) -> tuple[float, float]:
    """(factor that all gradients are multiplied by, their norm before); the factor is 1 where max_norm is 0.

    The norm is that of all gradients laid end to end; 1e-6 is added to it before the division.
    """
    norm = math.sqrt(sum(float((np.asarray(g, np.float64) ** 2).sum()) for g in gradients))
    return (min(1.0, max_norm / (norm + 1e-6)) if max_norm > 0 else 1.0), norm


def adamw(parameter: np.ndarray, gradient: np.ndarray, exp_avg: np.ndarray, exp_avg_sq: np.ndarray, step: int,
          lr: float, weight_decay: float = 1e-4, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
    """AdamW (arXiv 1711.05101, algorithm 2): the decay acts on the parameter, not through the gradient.

    Args:
        step: the number of this step, from 1. exp_avg, exp_avg_sq: the moments after the step before (zeros at first).

    Returns: (parameter, exp_avg, exp_avg_sq) after the step, float64.
    """
    parameter, gradient, m, v = (np.asarray(a, np.float64) for a in (parameter, gradient, exp_avg, exp_avg_sq))
    m = betas[0] * m + (1 - betas[0]) * gradient
    v = betas[1] * v + (1 - betas[1]) * gradient ** 2
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return parameter - lr * weight_decay * parameter - lr * m_hat / (np.sqrt(v_hat) + eps), m, v
