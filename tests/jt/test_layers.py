"""Layers of our own that no comparison of models would show to be wrong in all cases."""

import numpy as np
import pytest

from detr_jittor.jt.kernels import fast, plain
from detr_jittor.jt.layers import GroupNorm
from detr_jittor.jt.setup.runtime import jt

KERNELS = pytest.mark.parametrize("kernels", [fast, plain], ids=["fast", "plain"])


@KERNELS
@pytest.mark.parametrize("axis, first", [(1, 2), (-1, 1), (0, 1)])
@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
def test_split(kernels, axis, first, used):
    """The parts, and the gradient where both are used or only one of them is."""
    values = np.random.default_rng(3).standard_normal((2, 5, 4)).astype(np.float32)
    x = jt.array(values)
    parts = kernels.split(x, axis, first)
    wanted = np.split(values, [first], axis)
    assert all((part.numpy() == w).all() for part, w in zip(parts, wanted))
    gradient = jt.grad(sum((part * part).sum() for part, is_used in zip(parts, used) if is_used), x)
    doubled = np.concatenate([2 * w * is_used for w, is_used in zip(wanted, used)], axis)
    assert (gradient.numpy() == doubled).all()


@KERNELS
@pytest.mark.parametrize("axis, sizes", [(0, (1, 3)), (1, (2, 5, 1)), (-1, (4, 40_000))])
def test_concat(kernels, axis, sizes):
    """All parts, and the gradient of each; one of them is a constant."""
    rng, shape = np.random.default_rng(3), [2, 3, 4]
    values = []
    for size in sizes:
        shape[axis] = size
        values.append(rng.standard_normal(shape).astype(np.float32))
    parts = [jt.array(v) for v in values]
    parts[-1] = parts[-1].stop_grad()
    y = kernels.concat(parts, axis)
    assert (y.numpy() == np.concatenate(values, axis)).all()
    gradients = jt.grad((y * y).sum(), parts[:-1])
    assert all((g.numpy() == 2 * v).all() for g, v in zip(gradients, values))


@KERNELS
@pytest.mark.parametrize("used", [(0, 1, 2), (1,)])
def test_entries(kernels, used):
    """The numbers of the last axis, and the gradient where all are used or only some of them are."""
    values = np.random.default_rng(3).standard_normal((2, 5, 3)).astype(np.float32)
    x = jt.array(values)
    parts = kernels.entries(x)
    assert all((part.numpy() == values[..., i]).all() for i, part in enumerate(parts)) and len(parts) == 3
    gradient = jt.grad(sum((parts[i] * parts[i]).sum() for i in used), x)
    assert (gradient.numpy() == 2 * values * np.isin(range(3), used)).all()


def test_group_norm_of_a_large_map():
    """Its gradient holds sums over 107,200 numbers; one float32 sum of them was wrong by 1e-6, PyTorch is by 7e-8."""
    rng = np.random.default_rng(0)
    values, wanted = (rng.standard_normal((1, 256, 100, 134)).astype(np.float32) + shift for shift in (1, 0.5))
    norm, x = GroupNorm(32, 256), jt.array(values)
    y = norm(x)
    gradient = jt.grad((y * jt.array(wanted)).sum(), x).numpy()
    v, g = (a.astype(np.float64).reshape(32, -1) for a in (values, wanted))  # [groups, numbers of each]
    deviation = np.sqrt(v.var(1, keepdims=True) + 1e-5)
    normal = (v - v.mean(1, keepdims=True)) / deviation
    truth = (g - g.mean(1, keepdims=True) - normal * (g * normal).mean(1, keepdims=True)) / deviation
    assert relative(y.numpy(), normal) < 2e-7
    assert relative(gradient, truth) < 2e-7


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """The root mean square of the error by that of the truth."""
    return np.sqrt(np.mean(np.square(found.reshape(truth.shape) - truth)) / np.mean(np.square(truth)))
