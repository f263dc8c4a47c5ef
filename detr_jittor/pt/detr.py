"""DETR (section 3 of the paper).

B batch, L decoder layers, Q queries, C classes, D width.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import nn

from detr_jittor.config.options import ModelConfig
from detr_jittor.pt.backbone import Joiner
from detr_jittor.pt.transformer import Transformer


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int):
        super().__init__()
        widths = [inputs] + [hidden] * (depth - 1) + [outputs]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DETR(nn.Module):
    def __init__(self, config: ModelConfig, num_classes: int):
        super().__init__()
        dim = config.hidden_dim
        self.transformer = Transformer(config)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.bbox_embed = MLP(dim, dim, 4, 3)
        self.query_embed = nn.Embedding(config.num_queries, dim)
        backbone = Joiner(config)
        self.input_proj = nn.Conv2d(backbone.num_channels, dim, 1)
        self.backbone = backbone

    def forward(self, images, mask):
        """Detect objects.

        Args: images [B, 3, H, W], mask [B, H, W] bool, true in the padding.

        Returns: of every decoder layer, the last one last:
            logits [L, B, Q, C + 1], the last class is "no object";
            boxes [L, B, Q, 4], (cx, cy, w, h) as a fraction of each picture's own size.
        """
        features, mask, pos = self.backbone(images, mask)
        hs, _ = self.transformer(self.input_proj(features[-1]), mask, self.query_embed.weight, pos)
        return self.class_embed(hs), self.bbox_embed(hs).sigmoid()
