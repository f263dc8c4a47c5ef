"""ResNet backbone with frozen batch norm (arXiv 1512.03385), under torchvision's key names.

B batch, C channels, H and W height and width.
"""

from detr_jittor.config.options import DEPTHS, ModelConfig
from detr_jittor.jt import kernels
from detr_jittor.jt.position import build_position_embedding
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin.interpolation import nearest

nn = jt.nn



class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and affine: all four tensors are buffers, so no optimizer moves them.

    TRAP(jittor): buffers-are-parameters. Module.parameters() lists them and they require gradients; so what is
    trained is decided by name (parameters.is_trained), never by that list.
    """

    def __init__(self, channels: int):
        self.weight = jt.ones((channels,))
        self.bias = jt.zeros((channels,))
        self.running_mean = jt.zeros((channels,))
        self.running_var = jt.ones((channels,))

    def execute(self, x, conv, residual, relu: bool):
        """Convolution, this norm, sum with the residual, ReLU in one kernel."""
        norm = self.weight, self.bias, self.running_mean, self.running_var
        return kernels.conv_norm(x, conv.weight, norm, conv.stride, conv.padding, conv.dilation, residual, relu)


class BatchNorm2d(nn.Module):
    """Trainable batch norm, for a backbone that is trained from scratch."""

    def __init__(self, channels: int):
        self.weight = jt.ones((channels,))
        self.bias = jt.zeros((channels,))
        self.running_mean = jt.zeros((channels,))
        self.running_var = jt.ones((channels,))

    def execute(self, x, conv, residual, relu: bool):
        """Convolution, this norm, sum with the residual, ReLU in one kernel."""
        return kernels.conv_batch_norm(x, conv.weight, self.weight, self.bias, self.running_mean, self.running_var,
                                       conv.stride, conv.padding, conv.dilation, self.is_training(), residual, relu)


def conv_norm(x, conv, norm, residual=None, relu: bool = True):
    """Convolution, batch norm, sum with the residual, ReLU: [B, C, H, W] → [B, C', H', W']"""
    return norm(x, conv, residual, relu)


class BlockConvolution(nn.Module):
    """The weight and the geometry of a convolution; the norm that follows it runs both."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int):
        self.weight = jt.zeros((outputs, inputs, kernel, kernel))
        self.stride, self.padding, self.dilation = stride, padding, dilation


def conv2d(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> BlockConvolution:
    return BlockConvolution(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, downsample, norm):
        self.conv1 = conv2d(inputs, width, 3, stride, dilation)
        self.bn1 = norm(width)
        self.conv2 = conv2d(width, width, 3, 1, dilation)
        self.bn2 = norm(width)
        self.downsample = downsample

    def execute(self, x):
        x, identity = kernels.fork(x)
        if self.downsample is not None:
            identity = conv_norm(identity, *self.downsample, relu=False)
        y = conv_norm(x, self.conv1, self.bn1)
        return conv_norm(y, self.conv2, self.bn2, residual=identity)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, downsample, norm):
        self.conv1 = conv2d(inputs, width, 1)
        self.bn1 = norm(width)
        self.conv2 = conv2d(width, width, 3, stride, dilation)
        self.bn2 = norm(width)
        self.conv3 = conv2d(width, width * 4, 1)
        self.bn3 = norm(width * 4)
        self.downsample = downsample

    def execute(self, x):
        x, identity = kernels.fork(x)
        if self.downsample is not None:
            identity = conv_norm(identity, *self.downsample, relu=False)
        y = conv_norm(x, self.conv1, self.bn1)
        y = conv_norm(y, self.conv2, self.bn2)
        return conv_norm(y, self.conv3, self.bn3, residual=identity)


class ResNet(nn.Module):
    """Without the classifier. Returns the output of every stage."""

    def __init__(self, config: ModelConfig):
        block = BasicBlock if config.backbone in ("resnet18", "resnet34") else Bottleneck
        norm = BatchNorm2d if config.backbone_norm == "batch" else FrozenBatchNorm2d
        self.conv1 = conv2d(3, 64, 7, 2)
        self.bn1 = norm(64)
        inputs = 64
        self.stages = []
        for i, depth in enumerate(DEPTHS[config.backbone][: config.backbone_stages]):
            dilate = config.dilation and i == config.backbone_stages - 1
            stride = 1 if i == 0 or dilate else 2
            stage = self.stage(block, inputs, 64 * 2**i, depth, stride, dilate, norm)
            setattr(self, f"layer{i + 1}", stage)
            self.stages.append(f"layer{i + 1}")
            inputs = 64 * 2**i * block.expansion
        self.num_channels = inputs

    def stage(self, block, inputs: int, width: int, depth: int, stride: int, dilate: bool, norm):
        """One stage of `depth` blocks. Dilation replaces the stride in all of it, the downsample branch included;
        as in torchvision the first block keeps the dilation of the stage before."""
        outputs = width * block.expansion
        downsample = None
        if stride != 1 or inputs != outputs:
            downsample = nn.Sequential(conv2d(inputs, outputs, 1, stride), norm(outputs))
        blocks = [block(inputs, width, stride, 1, downsample, norm)]
        blocks += [block(outputs, width, 1, 2 if dilate else 1, None, norm) for _ in range(depth - 1)]
        return nn.Sequential(*blocks)

    def execute(self, x):
        """[B, 3, H, W] → the outputs of the stages, [B, C, H / 4, W / 4] first"""
        x = conv_norm(kernels.enter(x), self.conv1, self.bn1)
        x = kernels.max_pool(x)
        features = []
        for name in self.stages:
            x = getattr(self, name)(x)
            features.append(kernels.leave(x))
        return features


class Backbone(nn.Module):
    def __init__(self, config: ModelConfig):
        self.body = ResNet(config)
        self.num_channels = self.body.num_channels

    def execute(self, images):
        return self.body(images)


def shrink_mask(mask, h: int, w: int):
    """[B, H, W] bool → [B, h, w]: the padding mask at the size of a feature map, nearest neighbour"""
    rows, columns = nearest(mask.shape[1], h), nearest(mask.shape[2], w)
    return mask[:, rows[:, None], columns[None, :]]


class Joiner(nn.Sequential):
    """The backbone and the position embedding, under the reference code's keys `backbone.0` and `backbone.1`."""

    def __init__(self, config: ModelConfig):
        super().__init__(Backbone(config), build_position_embedding(config.position_embedding, config.hidden_dim))
        self.num_channels = self[0].num_channels

    def execute(self, images, mask):
        """[B, 3, H, W] and [B, H, W] → features of all stages, mask [B, h, w] and positions [B, D, h, w] of the last"""
        features = self[0](images)
        mask = shrink_mask(mask, *features[-1].shape[-2:])
        return features, mask, self[1](mask)
