"""Parts of an array along an axis, cut and joined by one operator each, where Jittor's own take one for each part and
more for the gradient. What lies together in memory moves as a block: widths are in numbers of float32."""

import math

from detr_jittor.jt.kernels.fast.library import apply, run
from detr_jittor.jt.setup.runtime import jt


class Cut(jt.Function):
    def execute(self, x, widths, shapes):
        self.saved = x.shape, widths, shapes
        return run("cut", [x], shapes, *widths)

    def grad(self, *gradients):
        shape, widths, shapes = self.saved
        parts = [jt.zeros(own) if g is None else g for g, own in zip(gradients, shapes)]
        return run("join", parts, [shape], *widths)[0], None, None


class Join(jt.Function):
    def execute(self, widths, shape, *parts):
        self.saved = widths, [part.shape for part in parts]
        return run("join", list(parts), [shape], *widths)[0]

    def grad(self, dy):
        widths, shapes = self.saved
        parts = run("cut", [dy], shapes, *widths)
        return None, None, *(g if i >= 0 else None for g, i in zip(parts, self.input_mask[2:]))


def split(x, axis: int, first: int):
    """The first entries of an axis, and the rest."""
    axis %= x.ndim
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1:]
    sizes, inner = (first, size - first), math.prod(after)
    return apply(Cut, x, [n * inner for n in sizes], [(*before, n, *after) for n in sizes])


def concat(parts, axis: int):
    """The reverse of `split`, of any number of parts."""
    shape = list(parts[0].shape)
    axis %= len(shape)
    inner, sizes = math.prod(shape[axis + 1:]), [part.shape[axis] for part in parts]
    shape[axis] = sum(sizes)
    return apply(Join, [n * inner for n in sizes], tuple(shape), *parts)


def entries(x):
    """The entries of the last axis: [..., n] → n of [...]"""
    n = x.shape[-1]
    return apply(Cut, x, [1] * n, [tuple(x.shape[:-1])] * n)
