"""Proposals (--query_boxes proposals): each place of the encoder's output says what is there and where, and at the best
ones the queries begin, with the box that the place says (Deformable DETR, arXiv 2010.04159, appendix A.4) and what is
seen there, which is added to the content that they have learned.

B batch, S = h·w places, Q queries, C classes, D width.
"""

from typing import NamedTuple

import torch
from torch import nn

from detr_jittor.config.options import ModelConfig
from detr_jittor.pt.detr import MLP
from detr_jittor.twin import proposals

SIDE = 0.2  # of a place's own box, by the picture's
NONE = -1e4  # logit of what is no place of the picture
FAR = 1e4  # added to where such a place lies: it is near no object
WHOLE = (0.0, 0.0, 1.4, 1.4)  # a box that is most of the picture, as logits: of queries for which there is no place


class Proposed(NamedTuple):
    """What the places say."""

    features: torch.Tensor  # [B, S, D]
    logits: torch.Tensor  # [B, S, C]; in the padding NONE
    boxes: torch.Tensor  # [B, S, 4] as logits
    own: torch.Tensor  # [B, S, 4] (cx, cy, w, h) of the places themselves, as a fraction of each picture's own size


class Proposals(nn.Module):
    def __init__(self, config: ModelConfig, num_classes: int):
        super().__init__()
        self.queries = config.num_queries
        self.class_score = nn.Linear(config.hidden_dim, num_classes)
        self.box_delta = MLP(config.hidden_dim, config.hidden_dim, 4, 3)

    def forward(self, x, mask, extent) -> Proposed:
        """Args: x [B, h, w, D], mask [B, h, w] bool, true in the padding; extent [B, 2] the share of the padded height
        and width that a picture covers."""
        own = own_boxes(*x.shape[1:3], extent)  # [B, S, 4]
        x, hidden = x.flatten(1, 2), mask.flatten(1)[..., None]  # [B, S, D], [B, S, 1]
        boxes = torch.logit(own.clamp(0.01, 0.99)) + self.box_delta(x)
        logits = self.class_score(x).to(own.dtype)  # from bfloat16, if that is what layers compute with
        return Proposed(x, logits.masked_fill(hidden, NONE), boxes, own + FAR * hidden)

    def best(self, proposed: Proposed):
        """Features [B, Q, D] and boxes [B, Q, 4], as logits, of the best places, without a gradient."""
        x, logits, boxes, _ = (y.detach() for y in proposed)
        b, q = x.shape[0], self.queries
        # Behind the places stand some for the queries that find none
        scores = torch.cat([logits.amax(-1), x.new_full((b, q), NONE / 2)], 1)  # [B, S + Q]
        x = torch.cat([x, x.new_zeros(b, q, x.shape[2])], 1)
        boxes = torch.cat([boxes, boxes.new_tensor(WHOLE).expand(b, q, -1)], 1)
        rows = best(scores, q)[..., None]  # [B, Q, 1]
        return x.gather(1, rows.expand(-1, -1, x.shape[2])), boxes.gather(1, rows.expand(-1, -1, 4))


def own_boxes(h: int, w: int, extent):
    """The places of h rows and w columns as boxes: [B, 2] → [B, S, 4]"""
    y, x = (((torch.arange(n, device=extent.device, dtype=extent.dtype) + 0.5) / n)[None] / extent[:, i, None]
            for i, n in enumerate((h, w)))  # [B, h], [B, w]
    y, x = y[:, :, None].expand(-1, -1, w), x[:, None].expand(-1, h, -1)  # [B, h, w]
    side = torch.full_like(x, SIDE)
    return torch.stack([x, y, side, side], 3).flatten(1, 2)


def best(scores, count: int):
    """See `proposals.best`: [B, S] → [B, count]"""
    if torch.onnx.is_in_onnx_export():  # a file has no NumPy
        return scores.topk(count, 1).indices.sort(1).values
    return torch.as_tensor(proposals.best(scores.float().cpu().numpy(), count), device=scores.device)
