"""Matching cost and losses of all decoder layers together (section 3.1 of the paper).

B batch, L decoder layers, Q queries, C classes, ΣT objects of the batch, M matched pairs of one layer.
H and W the pictures' padded height and width.
"""

from collections.abc import Sequence

import numpy as np

from detr_jittor.config.options import LossConfig
from detr_jittor.jt import kernels
from detr_jittor.jt.layers import softplus
from detr_jittor.jt.segmentation import interpolate
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin.matching import flat_indices, match
from detr_jittor.twin.parts import class_weight, divisor, share
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.types import Target

MASKS_AT_ONCE = 8  # masks that are held at the pictures' full size at the same time

nn = jt.nn


def corners(boxes):
    """[..., 4] (cx, cy, w, h) → x1, y1, x2, y2 [...] each"""
    cx, cy, w, h = kernels.entries(boxes)
    return cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h


def overlaps(a, b):
    """IoU and generalised IoU (arXiv 1902.09630) of boxes [..., 4] and [..., 4] (cx, cy, w, h), pair by pair (they
    broadcast) → [...] each"""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = corners(a), corners(b)
    width = jt.maximum(jt.minimum(ax2, bx2) - jt.maximum(ax1, bx1), 0)
    height = jt.maximum(jt.minimum(ay2, by2) - jt.maximum(ay1, by1), 0)
    intersection = width * height
    enclosing = (jt.maximum(ax2, bx2) - jt.minimum(ax1, bx1)) * (jt.maximum(ay2, by2) - jt.minimum(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    iou = intersection / union
    return iou, iou - (enclosing - union) / enclosing


def generalized_iou(a, b):
    """Of boxes [..., 4] and [..., 4], as `overlaps` has them → [...]"""
    return overlaps(a, b)[1]


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
        probability = nn.softmax(logits, -1)[:, :, :, labels]  # [L, B, Q, ΣT]
        distance = (boxes.unsqueeze(3) - target_boxes).abs().sum(-1)  # [L, B, Q, ΣT]
        giou = generalized_iou(boxes.unsqueeze(3), target_boxes)
        return c.set_cost_bbox * distance - c.set_cost_class * probability - c.set_cost_giou * giou

    def match(self, logits, boxes, targets: list[Target]) -> list:
        """The cheapest assignment of every layer, as `twin.matching.match` gives it: [L, B, Q, C + 1], [L, B, Q, 4]"""
        labels = np.concatenate([t.labels for t in targets])  # [ΣT]
        target_boxes = jt.array(np.concatenate([t.boxes for t in targets]))  # [ΣT, 4]
        with jt.no_grad():
            cost = self.matching_cost(logits, boxes, labels, target_boxes)
        return match(cost.numpy(), [len(t.labels) for t in targets], self.groups(logits))

    def __call__(self, logits, boxes, targets: list[Target], indices=None, masks_of=None, rest: Sequence[int] = (),
                 processes: Processes = ALONE):
        """Losses of every decoder layer, those of the masks of the last one.

        Args:
            logits [L, B, Q, C + 1], boxes [L, B, Q, 4], with L = 1 without auxiliary losses.
            indices: assignment of every layer, as `match` returns it; None: matched here.
            masks_of: makes the mask logits [N, h, w] of queries from their places [N] in the flattened [B, Q];
                None: no masks.
            rest: the numbers of objects in the pictures of the same step that are not in this batch. All losses are
                means over the step then, so that those of its batches add up to those of one batch.
            processes: those that share a step: what the losses are divided by is that of all their pictures
                together, so that the mean of their losses is what one process would have.

        Returns: (names, values, indices): the reference's keys, one vector of as many values, the assignment.
            Values are differentiable and not yet weighted.
        """
        labels = np.concatenate([t.labels for t in targets])  # [ΣT]
        target_boxes = np.concatenate([t.boxes for t in targets])
        target_boxes = jt.array(target_boxes)  # [ΣT, 4]
        sizes = [len(t.labels) for t in targets]
        if indices is None:
            indices = self.match(logits, boxes, targets)
        pairs, matched = flat_indices(indices, sizes, logits.shape[:3])
        num_boxes = divisor(sum([*sizes, *rest]), processes)
        wanted = np.full(logits.shape[:3], self.num_classes)  # [L, B, Q]
        wanted.reshape(-1)[pairs] = labels[matched]
        others = class_weight(rest, logits.shape[2], self.config.eos_coef)
        of_boxes, iou = self.loss_boxes(boxes, target_boxes, pairs, matched, num_boxes)
        quality = self.quality(iou, pairs, wanted.shape)
        losses = {
            "loss_ce": self.loss_labels(logits, wanted, quality, others, num_boxes, processes), **of_boxes,
            "cardinality_error": self.cardinality_error(logits, sizes) * share([1] * len(sizes), [1] * len(rest)),
        }
        names = [name if i == len(logits) - 1 else f"{name}_{i}" for name in losses for i in range(len(logits))]
        losses["class_error"] = self.class_error(logits[-1], wanted[-1]) * share(sizes, rest)
        names.append("class_error")
        if masks_of:
            rows, matched = (x.reshape(len(logits), -1)[-1] for x in (pairs, matched))  # [M] of the last layer
            losses |= self.loss_masks(masks_of, rows % wanted[-1].size, matched, targets, num_boxes)
            names += ["loss_mask", "loss_dice"]
        return names, kernels.concat([*losses.values()], 0), indices

    def groups(self, logits) -> int:
        """How many groups of queries stand side by side, each of which is matched by itself"""
        return 1

    def quality(self, iou, pairs: np.ndarray, shape: tuple[int, ...]):
        """What the class loss is told of the boxes: nothing here"""

    def loss_labels(self, logits, wanted: np.ndarray, quality, others: float, num_boxes: float, processes: Processes):
        """Cross entropy with weight eos_coef on "no object" and the weighted mean.

        Args: logits [L, B, Q, C + 1], wanted [L, B, Q] class of every query, others: the sum of the weights of queries
            that are not in this batch; quality, num_boxes: not used here, but by other class losses. Returns: [L]
        """
        weight = np.where(wanted == self.num_classes, self.config.eos_coef, 1.0)
        # In float64: an error here would be one of every gradient
        weight /= processes.mean(weight.sum((1, 2), keepdims=True) + others)
        weight = jt.array(weight.astype(np.float32))  # [L, B, Q]
        wanted = jt.array(wanted[..., None].astype(np.int32))
        entropy = -nn.log_softmax(logits, -1).gather(3, wanted).squeeze(3)  # [L, B, Q]
        return (weight * entropy).sum(2).sum(1)  # row by row: a long float32 sum loses digits

    def loss_boxes(self, boxes, target_boxes, pairs: np.ndarray, matched: np.ndarray, num_boxes: float):
        """L1 and 1 − GIoU of the matched pairs, summed and divided by num_boxes → [L] each; and their IoU [L, M]"""
        layers = len(boxes)
        predicted = boxes.reshape(-1, 4)[pairs].reshape(layers, -1, 4)  # [L, M, 4]
        target_boxes = target_boxes[matched].reshape(layers, -1, 4)  # [L, M, 4]
        distance = (predicted - target_boxes).abs().sum(2).sum(1) / num_boxes
        iou, giou = overlaps(predicted, target_boxes)  # [L, M]
        return {"loss_bbox": distance, "loss_giou": (1 - giou).sum(1) / num_boxes}, iou

    def loss_masks(self, masks_of, rows: np.ndarray, matched: np.ndarray, targets: list[Target], num_boxes: float):
        """Focal and dice loss of the matched masks at the targets' size, padding included → [1] each

        Args: masks_of as in `__call__`, rows [M] the matched queries in [B, Q], matched [M] their objects.
        """
        wanted = [mask for t in targets for mask in t.masks]  # ΣT masks [H, W] bool
        if len(rows) == 0:  # the gradient is zero then, not absent
            nothing = masks_of(np.zeros(1, int)).sum().reshape(1) * 0
            return {"loss_mask": nothing, "loss_dice": nothing}
        masks = masks_of(rows)  # [M, h, w]
        losses = jt.zeros(2)
        for start in range(0, len(rows), MASKS_AT_ONCE):
            some = slice(start, start + MASKS_AT_ONCE)
            target = jt.array(np.stack([wanted[i] for i in matched[some]]))
            losses = losses + early(mask_losses, masks[some], target.float32())
        losses = losses / num_boxes
        return {"loss_mask": losses[:1], "loss_dice": losses[1:]}

    def cardinality_error(self, logits, sizes: list[int]):
        """How many objects are predicted too many or too few, mean over the pictures → [L]; logged only"""
        # TRAP(jittor): argmax-returns-two. argmax returns (indices, values)
        predicted = (logits.detach().argmax(-1)[0] != self.num_classes).float32().sum(2)  # [L, B]
        wanted = jt.array(np.array(sizes, np.float32))  # [B]
        return (predicted - wanted).abs().mean(1)

    def class_error(self, logits, wanted: np.ndarray):
        """Percentage of matched queries with a wrong class, of one layer: [B, Q, C + 1], [B, Q] → [1]; logged only"""
        matched = wanted != self.num_classes
        wrong = (logits.detach().argmax(-1)[0].numpy() != wanted)[matched]
        return jt.array(np.array([100 * wrong.mean() if len(wrong) else 100.0], np.float32))


def mask_losses(masks, target):
    """Focal loss (arXiv 1708.02002, α = .25, γ = 2), mean of the pixels, and dice loss, each summed over the masks.

    Args: masks [N, h, w] logits, target [N, H, W] 0 or 1. Returns: [2]
    """
    x = interpolate(masks, *target.shape[1:])  # [N, H, W]
    wrong = x * (1 - 2 * target)  # logit of the wrong answer
    focal = (0.75 - 0.5 * target) * jt.sigmoid(wrong) ** 2 * softplus(wrong)
    p = jt.sigmoid(x)
    # TRAP(jittor): long-sums. One float32 sum over a million pixels loses three digits: so row by row
    dice = 1 - (2 * (p * target).sum(2).sum(1) + 1) / (p.sum(2).sum(1) + target.sum(2).sum(1) + 1)  # [N]
    return jt.concat([focal.mean(2).mean(1).sum().reshape(1), dice.sum().reshape(1)])


def early(function, x, *others):
    """function(x, *others) [2], with its gradient by x computed at once, so that nothing is kept in between.

    The gradient is handed on as that of a sum which is zero: Σ gradient · (x − x).
    """
    if jt.flags.no_grad:
        return function(x, *others)
    leaf = x.detach().start_grad()
    values = function(leaf, *others)
    gradients = [jt.grad(values[i], leaf, retain_graph=True) for i in range(2)]
    jt.sync([values, *gradients])
    zero = x - x.detach()
    return values.detach() + jt.concat([(gradient.detach() * zero).sum().reshape(1) for gradient in gradients])
