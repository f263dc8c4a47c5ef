"""Where a feature lies in the picture (section 3.2 of the paper; sine after arXiv 1706.03762).

B batch, H and W height and width of the feature map, D width of the transformer.
"""

import math

import torch
from torch import nn


class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of the normalised row and column, D / 2 features each."""

    def __init__(self, features: int, temperature: float = 10000.0):
        super().__init__()
        self.features = features  # D / 2
        self.temperature = temperature

    def forward(self, mask):
        """[B, H, W] bool, true in the padding → [B, D, H, W]"""
        dtype = torch.get_default_dtype()
        inside = (~mask).to(dtype)
        y = inside.cumsum(1)  # [B, H, W]
        x = inside.cumsum(2)
        y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
        x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
        exponent = torch.arange(self.features, device=mask.device) // 2 * (2.0 / self.features)
        frequency = self.temperature ** exponent.to(dtype)  # [D / 2]
        return torch.cat([self.waves(y, frequency), self.waves(x, frequency)], dim=3).permute(0, 3, 1, 2)

    def waves(self, position, frequency):
        """[B, H, W] and [D / 2] → [B, H, W, D / 2], sines and cosines in turn"""
        angle = position[:, :, :, None] / frequency
        waves = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=4)  # [B, H, W, D / 4, 2]
        return waves.flatten(3)


class PositionEmbeddingLearned(nn.Module):
    """A learned vector for each of 50 rows and 50 columns."""

    def __init__(self, features: int):
        super().__init__()
        self.row_embed = nn.Embedding(50, features)
        self.col_embed = nn.Embedding(50, features)

    def forward(self, mask):
        """[B, H, W] bool → [B, D, H, W]"""
        b, h, w = mask.shape
        x = self.col_embed.weight[:w][None].expand(h, -1, -1)  # [H, W, D / 2]
        y = self.row_embed.weight[:h][:, None].expand(-1, w, -1)  # [H, W, D / 2]
        return torch.cat([x, y], dim=2).permute(2, 0, 1)[None].expand(b, -1, -1, -1)


def build_position_embedding(kind: str, hidden_dim: int) -> nn.Module:
    return {"sine": PositionEmbeddingSine, "learned": PositionEmbeddingLearned}[kind](hidden_dim // 2)
