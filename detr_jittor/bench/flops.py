"""The arithmetic of DETR, counted from its shapes: two operations for each product of a convolution, a linear layer or
a matrix product. Norms, activations, dropout, losses and the optimizer are not counted.

B batch, S = h·w features of a picture, Q queries, D width, F hidden width, C classes.
"""

from dataclasses import dataclass

from detr_jittor.config.options import DEPTHS, Config


@dataclass(frozen=True)
class Product:
    """A convolution, linear layer or matrix product."""

    operations: float  # of its forward pass
    trained: bool = True  # whether a gradient of its weight (or second factor) is wanted
    passes: bool = True  # whether a gradient of its input is wanted

    @property
    def in_training(self) -> float:
        """Forward, and each gradient that is wanted: all three take the same."""
        return self.operations * (1 + self.trained + self.passes)


def inference(config: Config, num_classes: int, batch: int, height: int, width: int) -> float:
    """Floating-point operations of a forward pass."""
    return batch * sum(p.operations for p in products(config, num_classes, height, width))


def training(config: Config, num_classes: int, batch: int, height: int, width: int) -> float:
    """Floating-point operations of a forward and a backward pass, without gradients that nobody wants: with a frozen
    batch norm those of conv1 and layer1, and those by the input of layer2."""
    return batch * sum(p.in_training for p in products(config, num_classes, height, width))


def products(config: Config, num_classes: int, height: int, width: int) -> list[Product]:
    """All products for one picture."""
    found, h, w, channels = backbone(config, height, width)
    m = config.model
    s, q, d, f = h * w, m.num_queries, m.hidden_dim, m.dim_feedforward
    encoder = 8 * s * d * d + 4 * s * s * d + 4 * s * d * f  # four projections, two products of attention, two layers
    decoder = (8 * q * d * d + 4 * q * q * d  # self-attention
               + 4 * (q + s) * d * d + 4 * q * s * d  # cross-attention: keys and values are made of the picture
               + 4 * q * d * f)
    heads = 2 * q * d * (num_classes + 1) + 2 * q * d * (2 * d + 4)
    rest = 2 * s * channels * d + m.enc_layers * encoder + m.dec_layers * (decoder + heads)
    return [*found, Product(rest)]


def backbone(config: Config, height: int, width: int) -> tuple[list[Product], int, int, int]:
    """(convolutions, height, width and channels of the last features)"""
    m = config.model
    frozen = m.backbone_norm != "batch"
    learns = config.optim.lr_backbone > 0
    deep = m.backbone not in ("resnet18", "resnet34")
    expansion = 4 if deep else 1
    found: list[Product] = []

    def conv(size: tuple[int, int], inputs: int, outputs: int, kernel: int, stride: int, trained: bool, passes: bool,
             dilation: int = 1) -> tuple[int, int]:
        padding = dilation * (kernel // 2)
        h, w = ((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in size)
        found.append(Product(2.0 * h * w * inputs * outputs * kernel * kernel, trained, passes))
        return h, w

    size = conv((height, width), 3, 64, 7, 2, trained=learns and not frozen, passes=False)
    size = tuple((n - 1) // 2 + 1 for n in size)  # max-pooling
    inputs, passes = 64, learns and not frozen
    for i, depth in enumerate(DEPTHS[m.backbone][:m.backbone_stages]):
        trained, width_ = learns and not (frozen and i == 0), 64 * 2**i
        outputs = width_ * expansion
        dilate = m.dilation and i == m.backbone_stages - 1
        for block in range(depth):
            stride = 2 if block == 0 and i > 0 and not dilate else 1
            dilation = 2 if dilate and block else 1
            before = size
            if block == 0 and (stride != 1 or inputs != outputs):
                conv(before, inputs, outputs, 1, stride, trained, passes)
            if deep:
                inside = conv(before, inputs, width_, 1, 1, trained, passes)
                size = conv(inside, width_, width_, 3, stride, trained, passes or trained, dilation)
                conv(size, width_, outputs, 1, 1, trained, passes or trained)
            else:
                size = conv(before, inputs, width_, 3, stride, trained, passes, dilation)
                conv(size, width_, width_, 3, 1, trained, passes or trained, dilation)
            inputs, passes = outputs, passes or trained
    return found, *size, inputs
