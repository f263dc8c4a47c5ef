"""Where a feature lies in the picture (section 3.2 of the paper; sine after arXiv 1706.03762).

B batch, H and W height and width of the feature map, D width of the transformer.
"""

import math

import numpy as np

from detr_jittor.jt.setup.runtime import jt

nn = jt.nn


class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of the normalised row and column, D / 2 features each."""

    def __init__(self, features: int, temperature: float = 10000.0):
        self.features = features  # D / 2
        self.temperature = temperature

    def execute(self, mask):
        """[B, H, W] bool, true in the padding → [B, D, H, W]"""
        # TRAP(jittor): cumsum-of-bool. It stays boolean, and every position of a picture would be the same
        inside = jt.logical_not(mask).float64()  # angles up to 2π: float32 would lose a digit before the sine
        y = inside.cumsum(1)  # [B, H, W]
        x = inside.cumsum(2)
        y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
        x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
        exponent = np.arange(self.features) // 2 * (2.0 / self.features)
        frequency = jt.array(self.temperature**exponent, dtype="float64")  # [D / 2]
        return jt.concat([self.waves(y, frequency), self.waves(x, frequency)], dim=3).permute(0, 3, 1, 2)

    def waves(self, position, frequency):
        """[B, H, W] and [D / 2] → [B, H, W, D / 2], sines and cosines in turn

        Each cosine is the sine of a right angle more, which in float64 costs no digit: one operator, not seven.
        """
        quarter = jt.array(np.arange(self.features) % 2 * (math.pi / 2), dtype="float64")  # [D / 2]
        return (position.unsqueeze(3) / frequency + quarter).sin().float32()


class PositionEmbeddingLearned(nn.Module):
    """A learned vector for each of 50 rows and 50 columns."""

    def __init__(self, features: int):
        self.row_embed = nn.Embedding(50, features)
        self.col_embed = nn.Embedding(50, features)

    def execute(self, mask):
        """[B, H, W] bool → [B, D, H, W]"""
        b, h, w = mask.shape
        x = self.col_embed.weight[:w].unsqueeze(0).expand(h, -1, -1)  # [H, W, D / 2]
        y = self.row_embed.weight[:h].unsqueeze(1).expand(-1, w, -1)  # [H, W, D / 2]
        return jt.concat([x, y], dim=2).permute(2, 0, 1).unsqueeze(0).expand(b, -1, -1, -1)


def build_position_embedding(kind: str, hidden_dim: int) -> nn.Module:
    return {"sine": PositionEmbeddingSine, "learned": PositionEmbeddingLearned}[kind](hidden_dim // 2)
