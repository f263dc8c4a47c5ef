"""The kernels one by one, as the twins' own modules call them: forward and all gradients, at the shapes that DETR-R50
has in a training step on two pictures of 480×640."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from detr_jittor.config.options import Config
from detr_jittor.frameworks.load import part

Shape = tuple[int, ...]
Timed = tuple[Callable, list]  # a function of the inputs, and the weights that have gradients too

B, S, Q, D, HIDDEN, HEADS = 2, 300, 100, 256, 2048, 8  # pictures, features of each, queries, widths, heads
IMAGE, QUERY = (B, S, D), (B, Q, D)


class Parts:
    """The modules of one twin that the cases are made of."""

    def __init__(self, framework: str, dropout: float):
        self.backbone, self.transformer, self.timing = (
            part(framework, name) for name in ("backbone", "transformer", "timing"))
        config = Config().replace(hidden_dim=D, nheads=HEADS, dim_feedforward=HIDDEN, dropout=dropout).model
        self.layer = self.with_weights(self.transformer.TransformerEncoderLayer(config))
        self.attention = self.layer.self_attn
        # [B, S], true in the padding: a quarter of the second picture
        self.padding = self.timing.constant(np.arange(S)[None] >= np.array([[S], [S * 3 // 4]]))

    def with_weights(self, module):
        """The module with random weights, such that what comes out is as large as what goes in."""
        shapes, rng = {name: tuple(v.shape) for name, v in module.state_dict().items()}, np.random.default_rng(0)
        self.timing.load(module, {name: rng.standard_normal(shape, np.float32) / np.float32(prod(shape[1:]) ** 0.5)
                                  for name, shape in shapes.items()})
        return module


@dataclass(frozen=True)
class Case:
    name: str
    inputs: tuple[Shape, ...]  # float32, with gradients
    output: Shape
    build: Callable[[Parts], Timed]
    operations: float | None = None  # of the products of a forward pass; each gradient takes the same
    in_backbone: bool = False


def convolution(name: str, inputs: int, outputs: int, kernel: int, size: tuple[int, int], stride: int = 1,
                norm: str = "FrozenBatchNorm2d", residual: bool = False) -> Case:
    """Convolution, norm, sum with the residual, ReLU"""
    def build(parts: Parts) -> Timed:
        backbone, after = parts.backbone, getattr(parts.backbone, norm)(outputs)
        conv = parts.with_weights(backbone.conv2d(inputs, outputs, kernel, stride))
        trained = [after.weight, after.bias] if norm == "BatchNorm2d" else []
        return lambda x, *residual: backbone.conv_norm(x, conv, after, *residual), [conv.weight, *trained]

    output = B, outputs, *(n // stride for n in size)
    operations = 2.0 * prod(output) * inputs * kernel**2
    return Case(name, ((B, inputs, *size), *[output] * residual), output, build, operations, in_backbone=True)


def attention(parts: Parts) -> Timed:
    a = parts.attention
    return lambda q, k, v: parts.transformer.attention(q, k, v, parts.padding, HEADS, a.dropout), []


def whole_attention(parts: Parts) -> Timed:
    a = parts.attention
    return (lambda q, k, v: a(q, k, v, parts.padding),
            [a.in_proj_weight, a.in_proj_bias, a.out_proj.weight, a.out_proj.bias])


def feed_forward(parts: Parts) -> Timed:
    one, two = parts.layer.linear1, parts.layer.linear2
    return parts.layer.feed_forward, [one.weight, one.bias, two.weight, two.bias]


def module(find: Callable[[Parts], object]) -> Callable[[Parts], Timed]:
    """A module with a weight and a bias"""
    return lambda parts: (find(parts), [find(parts).weight, find(parts).bias])


CASES = (
    convolution("convolution 1×1, frozen norm, residual, ReLU", D, 1024, 1, (30, 40), residual=True),
    convolution("convolution 3×3, frozen norm, ReLU", D, D, 3, (30, 40)),
    convolution("convolution 3×3 with stride 2, frozen norm, ReLU", D, D, 3, (60, 80), stride=2),
    convolution("convolution 3×3, trained norm, ReLU", D, D, 3, (30, 40), norm="BatchNorm2d"),
    Case("max pooling", ((B, 64, 240, 320),), (B, 64, 120, 160), lambda parts: (parts.timing.max_pool, []),
         in_backbone=True),
    Case("linear layer", (IMAGE,), IMAGE, module(lambda parts: parts.attention.out_proj), 2.0 * B * S * D * D),
    Case("linear, ReLU, dropout, linear", (IMAGE,), IMAGE, feed_forward, 4.0 * B * S * D * HIDDEN),
    Case("attention, 300 to 300", (IMAGE,) * 3, IMAGE, attention, 4.0 * B * S * S * D),
    Case("attention, 100 to 300", (QUERY, IMAGE, IMAGE), QUERY, attention, 4.0 * B * Q * S * D),
    Case("attention and its projections", (IMAGE,) * 3, IMAGE, whole_attention,
         4.0 * B * S * S * D + 8.0 * B * S * D * D),
    Case("layer norm", (IMAGE,), IMAGE, module(lambda parts: parts.layer.norm1)),
    Case("dropout", (IMAGE,), IMAGE, lambda parts: (parts.layer.dropout1, [])),
)


def calls(framework: str, dropout: float = 0.1) -> dict[str, Callable[[], list]]:
    """{name of a case: computes its value and all gradients, once}

    Args: framework: the twin's.
    """
    parts, rng = Parts(framework, dropout), np.random.default_rng(0)
    found = {}
    for case in CASES:
        function, weights = case.build(parts)
        *inputs, gradient = (rng.standard_normal(shape, np.float32) for shape in (*case.inputs, case.output))
        found[case.name] = parts.timing.both_ways(function, inputs, weights, gradient, case.in_backbone)
    return found
