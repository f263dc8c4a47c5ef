"""Hold a fast kernel, and the one for a card on a processor, against their plain reference and against float64.

All implementations and torch get the same inputs and the same output gradient; values and all gradients are compared
with torch in float64. A kernel may err as much as torch does in float32 on this input, times a margin.
"""

import numpy as np
import torch

from detr_jittor.jt.kernels import cuda, fast, plain
from detr_jittor.jt.setup.runtime import jt

IMPLEMENTATIONS = fast, cuda, plain
MARGIN = 4  # measured: 2.9 at most (the smallest shapes, where both errors are a few units in the last place)


def jittor_results(function, arrays: dict, gradient: np.ndarray, fixed: tuple, blocked: tuple, kernels) -> dict:
    """{"value": …, name: gradient} of function(kernels, **Vars)"""
    inputs = {n: None if a is None else jt.array(a) for n, a in arrays.items()}
    wanted = [n for n, a in arrays.items() if a is not None and a.dtype == np.float32 and n not in fixed]
    entered = {n: kernels.enter(v) if n in blocked and v is not None else v for n, v in inputs.items()}
    value = function(kernels, **entered)
    value = kernels.leave(value) if blocked else value
    grads = jt.grad((value * jt.array(gradient)).sum(), [inputs[n] for n in wanted])
    return {"value": value.numpy(), **{n: g.numpy() for n, g in zip(wanted, grads)}}


def torch_results(function, arrays: dict, gradient: np.ndarray, fixed: tuple, dtype) -> dict:
    inputs = {n: None if a is None else torch.tensor(a) for n, a in arrays.items()}
    inputs = {n: t.to(dtype) if t is not None and t.is_floating_point() else t for n, t in inputs.items()}
    wanted = {n: t.requires_grad_() for n, t in inputs.items()
              if t is not None and t.is_floating_point() and n not in fixed}
    value = function(**inputs)
    (value * torch.tensor(gradient, dtype=dtype)).sum().backward()
    return {"value": value.detach().numpy(), **{n: t.grad.numpy() for n, t in wanted.items()}}


def compare(function, reference, arrays: dict, fixed: tuple = (), blocked: tuple = (), cancels: tuple = ()) -> None:
    """Fail unless values and gradients of all three kernels agree with torch in float64.

    Args:
        function: (kernels, **Vars) → Var; reference: (**tensors) → tensor.
        arrays: inputs by name; None is passed on.
        fixed: the float inputs without a gradient.
        blocked: the inputs that enter a region of convolutions; the result leaves it.
        cancels: the inputs whose gradient is zero because numbers near 1 cancel. Our kernels have to give zero. The
            plain one divides as g++ does it on AVX2 with Jittor's flags, by an estimate and one step of Newton's.
    """
    shape = reference(**{n: None if a is None else torch.tensor(a) for n, a in arrays.items()}).shape
    gradient = np.random.default_rng(7).normal(size=tuple(shape)).astype(np.float32)
    truth = torch_results(reference, arrays, gradient, fixed, torch.float64)
    single = torch_results(reference, arrays, gradient, fixed, torch.float32)
    for kernels in IMPLEMENTATIONS:
        results = jittor_results(function, arrays, gradient, fixed, blocked, kernels)
        assert results.keys() == truth.keys()
        for name, value in results.items():
            scale = np.abs(truth[name]).max(initial=1e-30)
            if name in cancels and kernels is plain:
                scale = 1.0
            allowed = MARGIN * max(np.abs(single[name] - truth[name]).max(initial=0), 3e-7 * scale)
            assert value.shape == truth[name].shape
            error = np.abs(value - truth[name]).max(initial=0)
            assert error <= allowed, f"{kernels.__name__} {name}: {error:.2g} > {allowed:.2g} (scale {scale:.2g})"
