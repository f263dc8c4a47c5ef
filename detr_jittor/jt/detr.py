"""DETR (section 3 of the paper).

B batch, L decoder layers, Q queries, C classes, D width.
"""

from itertools import pairwise

from detr_jittor.config.options import ModelConfig
from detr_jittor.jt.backbone import Joiner
from detr_jittor.jt.layers import Conv1x1, Linear
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.transformer import Transformer

nn = jt.nn


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int):
        widths = [inputs] + [hidden] * (depth - 1) + [outputs]
        self.layers = nn.ModuleList([Linear(a, b) for a, b in pairwise(widths)])

    def execute(self, x):
        for layer in self.layers[:-1]:
            x = layer(x, relu=True)
        return self.layers[-1](x)


class DETR(nn.Module):
    def __init__(self, config: ModelConfig, num_classes: int):
        dim = config.hidden_dim
        self.transformer = Transformer(config)
        self.class_embed = Linear(dim, num_classes + 1)
        self.bbox_embed = MLP(dim, dim, 4, 3)
        self.query_embed = nn.Embedding(config.num_queries, dim)
        backbone = Joiner(config)
        self.input_proj = Conv1x1(backbone.num_channels, dim)
        self.backbone = backbone

    def execute(self, images, mask):
        """Detect objects.

        Args: images [B, 3, H, W], mask [B, H, W] bool, true in the padding.

        Returns: of every decoder layer, the last one last:
            logits [L, B, Q, C + 1], the last class is "no object";
            boxes [L, B, Q, 4], (cx, cy, w, h) as a fraction of each picture's own size.
        """
        features, mask, pos = self.backbone(images, mask)
        hs, _ = self.transformer(self.input_proj(features[-1]), mask, self.query_embed.weight, pos)
        return self.class_embed(hs), self.bbox_embed(hs).sigmoid()
