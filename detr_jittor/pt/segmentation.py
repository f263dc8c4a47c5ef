"""DETR with masks: an attention map and a small convolutional head for each query (section 4.4 of the paper).

B batch, Q queries, N queries whose masks are made, D width, n attention heads, S = h·w features of a picture.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from detr_jittor.config.options import ModelConfig
from detr_jittor.pt.detr import DETR


class MHAttentionMap(nn.Module):
    """Where each query looks: attention without values."""

    def __init__(self, dim: int, nheads: int):
        super().__init__()
        self.nheads = nheads
        self.q_linear = nn.Linear(dim, dim)
        self.k_linear = nn.Linear(dim, dim)

    def forward(self, query, memory, mask):
        """[B, Q, D], [B, D, h, w] and [B, h, w] bool, true in the padding → [B, Q, n, h, w]

        One softmax goes over the places of all heads together.
        """
        b, d, h, w = memory.shape
        head = d // self.nheads
        q = self.q_linear(query).reshape(b, -1, self.nheads, head).transpose(1, 2)  # [B, n, Q, D / n]
        k = self.k_linear(memory.flatten(2).transpose(1, 2))  # [B, S, D]
        k = k.reshape(b, h * w, self.nheads, head).permute(0, 2, 3, 1)  # [B, n, D / n, S]
        scores = q * head**-0.5 @ k  # [B, n, Q, S]
        scores = scores.masked_fill(mask.reshape(b, 1, 1, h * w), float("-inf"))
        weights = scores.transpose(1, 2).flatten(2).softmax(-1)  # [B, Q, n·S]
        return weights.reshape(b, -1, self.nheads, h, w)


class MaskHeadSmallConv(nn.Module):
    """Convolutions with group norm that enlarge the map step by step and add the backbone's features (FPN)."""

    def __init__(self, dim: int, fpn_dims: list[int], context_dim: int):
        super().__init__()
        widths = [context_dim // 2, context_dim // 4, context_dim // 8, context_dim // 16]
        self.lay1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.gn1 = nn.GroupNorm(8, dim)
        self.lay2 = nn.Conv2d(dim, widths[0], 3, padding=1)
        self.gn2 = nn.GroupNorm(8, widths[0])
        self.lay3 = nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.gn3 = nn.GroupNorm(8, widths[1])
        self.lay4 = nn.Conv2d(widths[1], widths[2], 3, padding=1)
        self.gn4 = nn.GroupNorm(8, widths[2])
        self.lay5 = nn.Conv2d(widths[2], widths[3], 3, padding=1)
        self.gn5 = nn.GroupNorm(8, widths[3])
        self.out_lay = nn.Conv2d(widths[3], 1, 3, padding=1)
        self.adapter1 = nn.Conv2d(fpn_dims[0], widths[0], 1)
        self.adapter2 = nn.Conv2d(fpn_dims[1], widths[1], 1)
        self.adapter3 = nn.Conv2d(fpn_dims[2], widths[2], 1)

    def forward(self, x, fpns, pictures: np.ndarray):
        """Mask logits.

        Args:
            x: [N, dim, h, w] features and attention of each query.
            fpns: [B, C, h', w'] the backbone's features, the smallest first.
            pictures: [N] the picture of the batch to which each query belongs.

        Returns: [N, H / 4, W / 4]
        """
        x = conv_norm(x, self.lay1, self.gn1)
        x = conv_norm(x, self.lay2, self.gn2)
        x = enlarge(x, self.adapter1(fpns[0])[pictures])
        x = conv_norm(x, self.lay3, self.gn3)
        x = enlarge(x, self.adapter2(fpns[1])[pictures])
        x = conv_norm(x, self.lay4, self.gn4)
        x = enlarge(x, self.adapter3(fpns[2])[pictures])
        x = conv_norm(x, self.lay5, self.gn5)
        return self.out_lay(x)[:, 0]


def conv_norm(x, conv, norm):
    """Convolution, group norm, ReLU: [N, C, h, w] → [N, C', h, w]"""
    return F.relu(norm(conv(x)))


def enlarge(x, features):
    """[N, C, h, w] at the size of the features [N, C, h', w'], nearest neighbour, and their sum"""
    return features + F.interpolate(x, size=features.shape[-2:])


def interpolate(masks, h: int, w: int):
    """[N, h', w'] → [N, h, w], bilinear, the corners of the pixels not aligned"""
    return F.interpolate(masks[:, None], size=(h, w), mode="bilinear")[:, 0]


class DETRsegm(nn.Module):
    """DETR under `detr.`, and what makes masks of its queries.

    A mask depends on no other query. So `forward` stops before the mask head, and only those masks are made that are
    asked for: in training those of the matched queries, which are the only ones that the losses look at.
    """

    def __init__(self, config: ModelConfig, num_classes: int):
        super().__init__()
        self.detr = DETR(config, num_classes)
        dim, channels = config.hidden_dim, self.detr.backbone.num_channels
        self.bbox_attention = MHAttentionMap(dim, config.nheads)
        self.mask_head = MaskHeadSmallConv(dim + config.nheads, [channels // 2, channels // 4, channels // 8], dim)

    def forward(self, images, mask):
        """Logits and boxes as `DETR` has them, and what `masks` takes."""
        detr = self.detr
        features, mask, pos = detr.backbone(images, mask)
        src = detr.input_proj(features[-1])  # [B, D, h, w]
        hs, memory = detr.transformer(src, mask, detr.query_embed.weight, pos)
        attention = self.bbox_attention(hs[-1], memory, mask)  # [B, Q, n, h, w]
        return detr.class_embed(hs), detr.bbox_embed(hs).sigmoid(), (src, attention, features[2::-1])

    def masks(self, seen, rows: np.ndarray):
        """The masks of some queries.

        Args:
            seen: the last result of `forward`.
            rows: [N] the queries, by their place in the flattened [B, Q].

        Returns: [N, H / 4, W / 4] logits
        """
        src, attention, fpns = seen
        pictures = rows // attention.shape[1]
        x = torch.cat([src[pictures], attention.flatten(0, 1)[rows]], 1)  # [N, D + n, h, w]
        return self.mask_head(x, fpns, pictures)
