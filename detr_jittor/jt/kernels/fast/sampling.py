"""Attention to samples from a query's own box, the sine of numbers, and products by head. B batch, K queries, n heads,
D width, P bins an axis."""

from detr_jittor.jt.kernels.fast.library import apply, run
from detr_jittor.jt.setup.runtime import jt


class SampledAttention(jt.Function):
    def execute(self, content, place, rows, columns, boxes, extent, *maps_and_numbers):
        *maps, bins, of_bin, p, key = maps_and_numbers
        inputs, numbers = [content, place, rows, columns, boxes, extent, *maps], (bins, of_bin, p, key, len(maps))
        b, k, n, _ = content.shape
        kept = [] if jt.flags.no_grad else [(b, k, len(maps) * bins**2, n)]
        y, *weights = run("sampled_attention", inputs, [content.shape, *kept], *numbers)
        self.saved = inputs, weights, numbers
        return y

    def grad(self, dy):
        inputs, weights, numbers = self.saved
        content, place, *_ = inputs
        maps = inputs[6:]
        dcontent, dplace, *dmaps = run("sampled_attention_backward", [*inputs, *weights, dy],
                                       [content.shape, place.shape, *(x.shape for x in maps)], *numbers)
        grads = dcontent, dplace, None, None, None, None, *dmaps
        return *(g if self.input_mask[i] >= 0 else None for i, g in enumerate(grads)), None, None, None, None


class Sine(jt.Function):
    def execute(self, positions, features):
        y = run("sine", [positions], [(*positions.shape, features)])[0]
        self.saved = positions, y
        return y

    def grad(self, dy):
        return run("sine_backward", [*self.saved, dy], [self.saved[0].shape])[0], None


class ToHeads(jt.Function):
    def execute(self, x, weight, nheads):
        self.saved = x, weight, nheads
        return run("to_heads", [x, weight], [(*x.shape[:2], nheads, x.shape[2])], nheads)[0]

    def grad(self, dy):
        x, weight, nheads = self.saved
        wanted = [mask >= 0 for mask in self.input_mask[:2]]
        return (run("from_heads", [dy, weight], [x.shape], nheads)[0] if wanted[0] else None,
                run("heads_weight", [x, dy], [weight.shape], nheads)[0] if wanted[1] else None, None)


class FromHeads(jt.Function):
    def execute(self, x, weight, nheads):
        self.saved = x, weight, nheads
        return run("from_heads", [x, weight], [(*x.shape[:2], x.shape[3])], nheads)[0]

    def grad(self, dy):
        x, weight, nheads = self.saved
        wanted = [mask >= 0 for mask in self.input_mask[:2]]
        return (run("to_heads", [dy, weight], [x.shape], nheads)[0] if wanted[0] else None,
                run("heads_weight", [dy, x], [weight.shape], nheads)[0] if wanted[1] else None, None)


def sampled_attention(content, place, rows, columns, boxes, extent, maps, bins: int, of_bin: int, p: float, key: int):
    """See `plain.sampled_attention`."""
    return apply(SampledAttention, content, place, rows, columns, boxes, extent, *maps, bins, of_bin, p, key)


def sine(positions, features: int):
    """See `plain.sine`."""
    return apply(Sine, positions, features)


def to_heads(x, weight, nheads: int):
    """Wᵀ x by head: [B, K, D] and [D, D] → [B, K, n, D]"""
    return apply(ToHeads, x, weight, nheads)


def from_heads(x, weight, nheads: int):
    """W x by head: [B, K, n, D] and [D, D] → [B, K, D]"""
    return apply(FromHeads, x, weight, nheads)
