"""Linear layers, alone and as the feed-forward pair of the transformer. B batch, L length, D width, F hidden width."""

from detr_jittor.jt.kernels.fast.library import apply, is_kept, run
from detr_jittor.jt.setup.runtime import jt


class Linear(jt.Function):
    def execute(self, x, weight, bias, relu, kept):
        y = run("linear", [x, weight, bias], [(*x.shape[:-1], weight.shape[0])], relu, kept)[0]
        self.saved = x, weight, bias, [y] if relu else []
        return y

    def grad(self, dy):
        x, weight, bias, y = self.saved
        return *wanted_gradients(self, "linear_backward", [x, weight, dy, *y], [x, weight, bias]), None, None


class Projections(jt.Function):
    def execute(self, query, key, value, weight, bias):
        shapes = [(*x.shape[:-1], weight.shape[0] // 3) for x in (query, key, value)]
        self.saved = query, key, value, weight, bias
        return run("projections", self.saved, shapes, is_kept(weight))

    def grad(self, dq, dk, dv):
        return wanted_gradients(self, "projections_backward", [*self.saved[:4], dq, dk, dv], self.saved)


class FeedForward(jt.Function):
    def execute(self, x, w1, b1, w2, b2, p, key):
        rows = x.shape[:-1]
        hidden = [] if jt.flags.no_grad else [(*rows, w1.shape[0])]
        y, *hidden = run("feed_forward", [x, w1, b1, w2, b2], [(*rows, w2.shape[0]), *hidden], p, key, is_kept(w1))
        self.saved = x, w1, b1, w2, b2, hidden, p
        return y

    def grad(self, dy):
        x, w1, b1, w2, b2, hidden, p = self.saved
        inputs = [x, w1, w2, *hidden, dy]
        return *wanted_gradients(self, "feed_forward_backward", inputs, [x, w1, b1, w2, b2], p), None, None


def wanted_gradients(function: jt.Function, kernel: str, inputs: list, variables: list, *numbers: float) -> list:
    """Run a kernel that writes the gradients of the function's first inputs, those that are asked for."""
    wants = [function.input_mask[i] >= 0 for i in range(len(variables))]
    grads = iter(run(kernel, inputs, [v.shape for v, wanted in zip(variables, wants) if wanted], *numbers, *wants))
    return [next(grads) if wanted else None for wanted in wants]


def linear(x, weight, bias, relu=False):
    """[..., D] and [D', D], or [D', D, 1, 1] → [..., D']"""
    return apply(Linear, x, weight, bias, relu, is_kept(weight))


def projections(query, key, value, weight, bias):
    """Three linear layers whose weights lie in one: [..., D] each, [3D, D] and [3D] → [..., D] each"""
    return apply(Projections, query, key, value, weight, bias)


def feed_forward(x, w1, b1, w2, b2, p: float, key: int):
    """Linear, ReLU, dropout, linear: [B, L, D] → [B, L, D]"""
    return apply(FeedForward, x, w1, b1, w2, b2, p, key)
