"""Attention: Jittor's matrix products, which are cuBLAS's, and one kernel between them. B batch, K queries, n heads,
L length, D width, P bins an axis, M maps."""

from detr_jittor.jt.kernels.cuda.library import run
from detr_jittor.jt.kernels.fast.library import apply
from detr_jittor.jt.kernels.plain import by_head, sampled_scores
from detr_jittor.jt.setup.runtime import jt


class Softmax(jt.Function):
    def execute(self, scores, ignored, scale, p, key):
        inputs, self.numbers = [scores] + ([] if ignored is None else [ignored]), (scale, p, key)
        weights, *dropped = run("softmax", "softmax", inputs, [scores.shape] * (2 if p > 0 else 1), *self.numbers)
        self.saved = weights
        return dropped[0] if dropped else weights

    def grad(self, dy):
        return run("softmax", "softmax_backward", [self.saved, dy], [dy.shape], *self.numbers)[0], *[None] * 4


class Samples(jt.Function):
    def execute(self, boxes, extent, *maps_and_numbers):
        *maps, bins, of_bin = maps_and_numbers
        self.saved = boxes, extent, maps, bins, of_bin
        shape = *boxes.shape[:2], len(maps) * bins**2, maps[0].shape[3]
        return run("sampling", "sample", [boxes, extent, *maps], [shape], bins, of_bin)[0]

    def grad(self, dy):
        boxes, extent, maps, *numbers = self.saved
        dmaps = run("sampling", "sample_backward", [boxes, extent, dy], [x.shape for x in maps], *numbers)
        return None, None, *(g if self.input_mask[2 + i] >= 0 else None for i, g in enumerate(dmaps)), None, None


def softmax(scores, ignored, scale: float, p: float, key: int):
    """softmax(scale · scores) over the keys, then dropout → [B, …, keys], zero where every key is ignored.

    Args: scores [B, …, keys]; ignored [B, keys] bool or None, true where a key is ignored; p, key: dropout.
    """
    return apply(Softmax, scores, ignored, scale, p, key)


def attention(q, k, v, key_padding_mask, nheads: int, p: float, key: int):
    """See `plain.attention`."""
    b, lq, d = q.shape
    q, k, v = (by_head(x, nheads) for x in (q, k, v))
    weights = softmax(jt.matmul(q, k.transpose(0, 1, 3, 2)), key_padding_mask, (d // nheads) ** -0.5, p, key)
    return jt.matmul(weights, v).transpose(0, 2, 1, 3).reshape(b, lq, -1)


def sampled_attention(content, place, rows, columns, boxes, extent, maps, bins: int, of_bin: int, p: float, key: int):
    """See `plain.sampled_attention`."""
    tokens = apply(Samples, boxes, extent, *maps, bins, of_bin)  # [B, K, M·P·P, D]
    return jt.matmul(softmax(sampled_scores(content, place, rows, columns, tokens), None, 1.0, p, key), tokens)
