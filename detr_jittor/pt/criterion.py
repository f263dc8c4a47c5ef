"""Matching cost and losses of all decoder layers together (section 3.1 of the paper).

B batch, L decoder layers, Q queries, C classes, ΣT objects of the batch, M matched pairs of one layer.
"""

import numpy as np
import torch
import torch.nn.functional as F

from detr_jittor.config import LossConfig
from detr_jittor.matching import match
from detr_jittor.types import Target


def cxcywh_to_xyxy(boxes):
    """[..., 4] → [..., 4]"""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h], dim=-1)


def generalized_iou(a, b):
    """[..., 4] and [..., 4] (x1, y1, x2, y2), pair by pair (they broadcast) → [...] (arXiv 1902.09630)"""
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    intersection = inner[..., 0] * inner[..., 1]
    enclosing = outer[..., 0] * outer[..., 1]
    union = area_a + area_b - intersection
    return intersection / union - (enclosing - union) / enclosing


class Criterion:
    """Matches each decoder layer anew and computes its losses."""

    def __init__(self, config: LossConfig, num_classes: int):
        self.config = config
        self.num_classes = num_classes

    def matching_cost(self, logits, boxes, labels, target_boxes):
        """Cost of every query against every object of the batch.

        Args: logits [L, B, Q, C + 1], boxes [L, B, Q, 4], labels [ΣT], target_boxes [ΣT, 4].

        Returns: [L, B, Q, ΣT]
        """
        c = self.config
        probability = logits.softmax(-1)[..., labels]  # [L, B, Q, ΣT]
        distance = (boxes[..., None, :] - target_boxes).abs().sum(-1)  # [L, B, Q, ΣT]
        giou = generalized_iou(cxcywh_to_xyxy(boxes)[..., None, :], cxcywh_to_xyxy(target_boxes))
        return c.set_cost_bbox * distance - c.set_cost_class * probability - c.set_cost_giou * giou

    def __call__(self, logits, boxes, targets: list[Target], indices=None):
        """Losses of every decoder layer.

        Args:
            logits [L, B, Q, C + 1], boxes [L, B, Q, 4], with L = 1 without auxiliary losses.
            indices: assignment of every layer, as `match` returns it; None: matched here.

        Returns: (names, values, indices): the reference's keys, one vector of as many values, the assignment.
            Values are differentiable and not yet weighted.
        """
        labels = torch.as_tensor(np.concatenate([t.labels for t in targets]), device=logits.device)
        target_boxes = np.concatenate([t.boxes for t in targets])
        target_boxes = torch.as_tensor(target_boxes, device=logits.device, dtype=boxes.dtype)
        sizes = [len(t.labels) for t in targets]
        if indices is None:
            with torch.no_grad():
                cost = self.matching_cost(logits, boxes, labels, target_boxes)
            indices = match(cost.cpu().numpy(), sizes)
        layer, picture, query, matched = flat_indices(indices, sizes)
        num_boxes = max(sum(sizes), 1)
        losses = {
            "loss_ce": self.loss_labels(logits, labels, layer, picture, query, matched),
            **self.loss_boxes(boxes, target_boxes, layer, picture, query, matched, num_boxes),
            **self.cardinality_error(logits, sizes),
        }
        names = [name if i == len(logits) - 1 else f"{name}_{i}" for name in losses for i in range(len(logits))]
        names.append("class_error")
        error = self.class_error(logits, labels, layer, picture, query, matched)
        return names, torch.cat([*losses.values(), error]), indices

    def loss_labels(self, logits, labels, layer, picture, query, matched):
        """Cross entropy with weight eos_coef on "no object" and the weighted mean → [L]"""
        target = torch.full(logits.shape[:3], self.num_classes, device=logits.device)  # [L, B, Q]
        target[layer, picture, query] = labels[matched]
        weight = torch.ones(self.num_classes + 1, dtype=logits.dtype, device=logits.device)
        weight[-1] = self.config.eos_coef
        weight = weight[target]  # [L, B, Q]
        entropy = -F.log_softmax(logits, -1).gather(3, target[..., None])[..., 0]  # [L, B, Q]
        return (weight * entropy).sum((1, 2)) / weight.sum((1, 2))

    def loss_boxes(self, boxes, target_boxes, layer, picture, query, matched, num_boxes: float):
        """L1 and 1 − GIoU of the matched pairs, summed and divided by num_boxes → [L] each"""
        predicted = boxes[layer, picture, query].view(len(boxes), -1, 4)  # [L, M, 4]
        wanted = target_boxes[matched].view(len(boxes), -1, 4)  # [L, M, 4]
        distance = (predicted - wanted).abs().sum((1, 2)) / num_boxes
        giou = generalized_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted))  # [L, M]
        return {"loss_bbox": distance, "loss_giou": (1 - giou).sum(1) / num_boxes}

    @torch.no_grad()
    def cardinality_error(self, logits, sizes: list[int]):
        """How many objects are predicted too many or too few, mean over the pictures → [L]; logged only"""
        predicted = (logits.argmax(-1) != self.num_classes).sum(2)  # [L, B]
        wanted = torch.as_tensor(sizes, device=logits.device)
        return {"cardinality_error": (predicted - wanted).abs().to(logits.dtype).mean(1)}

    @torch.no_grad()
    def class_error(self, logits, labels, layer, picture, query, matched):
        """Percentage of the last layer's matched queries with a wrong class → [1]; logged only"""
        last = layer == len(logits) - 1
        if not last.any():
            return logits.new_full((1,), 100.0)
        predicted = logits[-1, picture[last], query[last]].argmax(-1)
        right = (predicted == labels[matched[last]]).to(logits.dtype)
        return 100 - 100 * right.mean()[None]

    def weights(self, names: list[str]) -> np.ndarray:
        """The coefficient of each loss in the sum; 0 for what is only logged → [len(names)] float32"""
        c = self.config
        coefficients = {"loss_ce": 1.0, "loss_bbox": c.bbox_loss_coef, "loss_giou": c.giou_loss_coef,
                        "loss_mask": c.mask_loss_coef, "loss_dice": c.dice_loss_coef}
        return np.array([coefficients.get(name.rstrip("0123456789").rstrip("_"), 0.0) for name in names], np.float32)


def flat_indices(indices, sizes: list[int]):
    """The matched pairs of all layers as four NumPy vectors [L·M]: layer, picture, query, object of the batch."""
    start = np.cumsum([0, *sizes])
    rows = [(np.full_like(a.queries, layer), np.full_like(a.queries, picture), a.queries, a.objects + start[picture])
            for layer, pictures in enumerate(indices) for picture, a in enumerate(pictures)]
    return tuple(np.concatenate(column) for column in zip(*rows))
