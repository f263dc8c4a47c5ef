"""Layers of our own that no comparison of models would show to be wrong in all cases."""

import numpy as np
import pytest

from detr_jittor.jt.layers import split
from detr_jittor.jt.setup.runtime import jt


@pytest.mark.parametrize("axis, first", [(1, 2), (-1, 1), (0, 1)])
@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
def test_split(axis, first, used):
    """The parts, and the gradient where both are used or only one of them is."""
    values = np.random.default_rng(3).standard_normal((2, 5, 4)).astype(np.float32)
    x = jt.array(values)
    parts = split(x, axis, first)
    wanted = np.split(values, [first], axis)
    assert all((part.numpy() == w).all() for part, w in zip(parts, wanted))
    gradient = jt.grad(sum((part * part).sum() for part, is_used in zip(parts, used) if is_used), x)
    doubled = np.concatenate([2 * w * is_used for w, is_used in zip(wanted, used)], axis)
    assert (gradient.numpy() == doubled).all()
