"""Proposals (--query_boxes proposals): each place of the encoder's output says what is there and where, and at the best
ones the queries begin, with the box that the place says (Deformable DETR, arXiv 2010.04159, appendix A.4) and what is
seen there, which is added to the content that they have learned.

B batch, S = h·w places, Q queries, C classes, D width.
"""

from typing import NamedTuple

import numpy as np

from detr_jittor.config.options import ModelConfig
from detr_jittor.jt.detr import MLP
from detr_jittor.jt.layers import Linear
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin import proposals

nn = jt.nn

SIDE = 0.2  # of a place's own box, by the picture's
NONE = -1e4  # logit of what is no place of the picture
FAR = 1e4  # added to where such a place lies: it is near no object
WHOLE = (0.0, 0.0, 1.4, 1.4)  # a box that is most of the picture, as logits: of queries for which there is no place


class Proposed(NamedTuple):
    """What the places say."""

    features: jt.Var  # [B, S, D]
    logits: jt.Var  # [B, S, C]; in the padding NONE
    boxes: jt.Var  # [B, S, 4] as logits
    own: jt.Var  # [B, S, 4] (cx, cy, w, h) of the places themselves, as a fraction of each picture's own size


class Proposals(nn.Module):
    def __init__(self, config: ModelConfig, num_classes: int):
        self.queries = config.num_queries
        self.class_score = Linear(config.hidden_dim, num_classes)
        self.box_delta = MLP(config.hidden_dim, config.hidden_dim, 4, 3)

    def execute(self, x, mask, extent) -> Proposed:
        """Args: x [B, h, w, D], mask [B, h, w] bool, true in the padding; extent [B, 2] the share of the padded height
        and width that a picture covers."""
        own = own_boxes(*x.shape[1:3], extent)  # [B, S, 4]
        x, hidden = x.flatten(1, 2), mask.flatten(1).unsqueeze(2).float32()  # [B, S, D], [B, S, 1]
        held = own.clamp(0.01, 0.99)
        boxes = jt.log(held / (1 - held)) + self.box_delta(x)
        return Proposed(x, self.class_score(x) * (1 - hidden) + NONE * hidden, boxes, own + FAR * hidden)

    def best(self, proposed: Proposed):
        """Features [B, Q, D] and boxes [B, Q, 4], as logits, of the best places, without a gradient."""
        x, logits, boxes, _ = (y.detach() for y in proposed)
        (b, s, d), q = x.shape, self.queries
        # Behind the places stand some for the queries that find none
        scores = jt.concat([logits.max(-1), jt.full((b, q), NONE / 2)], 1)  # [B, S + Q]
        x = jt.concat([x, jt.zeros((b, q, d))], 1)
        boxes = jt.concat([boxes, jt.array(np.float32(WHOLE)).expand(b, q, 4)], 1)
        rows = best(scores, q) + np.arange(b)[:, None] * (s + q)  # [B, Q]
        return x.reshape(-1, d)[rows], boxes.reshape(-1, 4)[rows]


def own_boxes(h: int, w: int, extent):
    """The places of h rows and w columns as boxes: [B, 2] → [B, S, 4]"""
    b = len(extent)
    y, x = (jt.array(((np.arange(n) + 0.5) / n).astype(np.float32)).unsqueeze(0) / extent[:, i].unsqueeze(1)
            for i, n in enumerate((h, w)))  # [B, h], [B, w]
    y, x = y.unsqueeze(2).expand(b, h, w), x.unsqueeze(1).expand(b, h, w)  # [B, h, w]
    side = jt.full_like(x, SIDE)
    return jt.stack([x, y, side, side], dim=3).flatten(1, 2)


def best(scores, count: int) -> np.ndarray:
    """See `proposals.best`: [B, S] → [B, count]"""
    return proposals.best(scores.numpy(), count)
