"""Matching cost and losses of the box decoder: classes by focal loss (arXiv 1708.02002, equation 5; as a cost it is
Deformable DETR's, arXiv 2010.04159), or by one that knows how good the boxes are (DEIM, arXiv 2412.04234); and the
losses of the noisy copies, which need no matching (DN-DETR, arXiv 2203.01305, section 4.2).

B batch, L decoder layers, R groups of Q queries, N noisy copies, C classes, ΣT objects of the batch, M copies of
objects.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from detr_jittor.config.options import LossConfig, ModelConfig
from detr_jittor.pt.criterion import Criterion, generalized_iou
from detr_jittor.pt.proposals import Proposed
from detr_jittor.twin.denoising import Noisy
from detr_jittor.twin.parts import divisor
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.twin.proposals import standing_for
from detr_jittor.types import Target

GAMMA = 1.5  # power of the quality, and of a wrong class's probability


class BoxCriterion(Criterion):
    """DETR's, for groups of queries, with the losses of the noisy copies besides."""

    def __init__(self, config: LossConfig, num_classes: int, queries: int):
        super().__init__(config, num_classes)
        self.queries = queries  # Q

    def groups(self, logits) -> int:
        return logits.shape[2] // self.queries  # R

    def __call__(self, logits, boxes, targets: list[Target], indices=None, masks_of=None, rest: Sequence[int] = (),
                 processes: Processes = ALONE, noisy: Noisy | None = None, proposed: Proposed | None = None):
        """As `Criterion`; behind the queries stand the copies, whose losses have names of their own (`loss_ce_dn`, …),
        as those of the proposals have (`loss_ce_enc`, …).

        Args: logits [L, B, R·Q + N, C], boxes [L, B, R·Q + N, 4].
        """
        if proposed is not None:
            names, values, indices = self(logits, boxes, targets, indices, masks_of, rest, processes, noisy)
            losses = self.loss_proposals(proposed, targets, rest, processes)
            return [*names, *losses], torch.cat([values, *losses.values()]), indices
        if noisy is None:
            return self.of_groups(logits, boxes, targets, indices, masks_of, rest, processes)
        copies = noisy.labels.shape[1]
        (logits, logits_dn), (boxes, boxes_dn) = (x.split([x.shape[2] - copies, copies], 2) for x in (logits, boxes))
        names, values, indices = self.of_groups(logits, boxes, targets, indices, masks_of, rest, processes)
        losses = self.loss_copies(logits_dn, boxes_dn, targets, noisy, rest, processes)
        layers = len(logits)
        names = names + [name if i == layers - 1 else f"{name}_{i}" for name in losses for i in range(layers)]
        return names, torch.cat([values, *losses.values()]), indices

    def of_groups(self, logits, boxes, targets: list[Target], indices, masks_of, rest: Sequence[int],
                  processes: Processes):
        """As `Criterion`; each group has the losses of a picture of its own, so that all are means over the groups."""
        groups = self.groups(logits)
        logits, boxes = (x.reshape(len(x), -1, self.queries, x.shape[3]) for x in (logits, boxes))  # [L, B·R, Q, …]
        targets, rest = ([x for x in per_picture for _ in range(groups)] for per_picture in (targets, rest))
        return super().__call__(logits, boxes, targets, indices, masks_of, rest, processes)

    def loss_copies(self, logits, boxes, targets: list[Target], noisy: Noisy, rest: Sequence[int],
                    processes: Processes):
        """The same losses where each copy stands for its object, means over the groups: [L, B, N, C] → [L] each"""
        places, objects = noisy.pairs(len(logits))  # [L·M] each
        labels, wanted = (np.concatenate([getattr(t, name) for t in targets]) for name in ("labels", "boxes"))
        wanted = torch.as_tensor(wanted, device=boxes.device, dtype=boxes.dtype)  # [ΣT, 4]
        number = noisy.groups * divisor(len(labels) + sum(rest), processes)
        kinds = logits.reshape(-1, logits.shape[3])[places].view(len(logits), 1, -1, logits.shape[3])  # [L, 1, M, C]
        others = noisy.groups * sum(rest)
        of_boxes, iou = self.loss_boxes(boxes, wanted, places, objects, number)
        labels = labels[objects].reshape(len(logits), 1, -1)  # [L, 1, M]
        quality = self.quality(iou, np.arange(labels.size), labels.shape)
        losses = {"loss_ce": self.loss_labels(kinds, labels, quality, others, number, processes), **of_boxes}
        return {f"{name}_dn": value for name, value in losses.items()}

    def loss_proposals(self, proposed: Proposed, targets: list[Target], rest: Sequence[int], processes: Processes):
        """The same losses of all places, of which one stands for each object → [1] each"""
        own = proposed.own.cpu().numpy()
        places, objects = standing_for(targets, own[..., :2])  # [M] each
        labels, wanted = (np.concatenate([getattr(t, name) for t in targets]) for name in ("labels", "boxes"))
        wanted = torch.as_tensor(wanted, device=proposed.boxes.device, dtype=proposed.boxes.dtype)  # [ΣT, 4]
        number = divisor(len(labels) + sum(rest), processes)
        of_boxes, iou = self.loss_boxes(proposed.boxes.sigmoid()[None], wanted, places, objects, number)
        kinds = np.full((1, *own.shape[:2]), self.num_classes)  # [1, B, S]
        kinds.reshape(-1)[places] = labels[objects]
        quality = self.quality(iou, places, kinds.shape)
        of_classes = self.loss_labels(proposed.logits[None], kinds, quality, 0.0, number, processes)
        losses = {"loss_ce": of_classes, **of_boxes}
        return {f"{name}_enc": value for name, value in losses.items()}


class FocalCriterion(BoxCriterion):
    """Every class by itself: the sum over queries and classes, divided by the number of boxes."""

    def matching_cost(self, logits, boxes, labels, target_boxes):
        """Cost of every query against every object of the batch: by how much the focal loss would change.

        Args: logits [L, B, Q, C], boxes [L, B, Q, 4], labels [ΣT], target_boxes [ΣT, 4].

        Returns: [L, B, Q, ΣT]
        """
        c, x = self.config, logits[..., labels]  # [L, B, Q, ΣT]
        kind = focal(-x, c.focal_alpha) - focal(x, 1 - c.focal_alpha)
        distance = (boxes[..., None, :] - target_boxes).abs().sum(-1)  # [L, B, Q, ΣT]
        giou = generalized_iou(boxes[..., None, :], target_boxes)
        return c.set_cost_bbox * distance + c.set_cost_focal * kind - c.set_cost_giou * giou

    def loss_labels(self, logits, wanted: np.ndarray, quality, others: float, num_boxes: float, processes: Processes):
        """Args: logits [L, B, Q, C], wanted [L, B, Q] class of every query, C for none. Returns: [L]"""
        truth = torch.as_tensor(wanted[..., None] == np.arange(self.num_classes), device=logits.device)
        truth = truth.to(logits.dtype)  # [L, B, Q, C]
        alpha = self.config.focal_alpha
        losses = focal(logits * (1 - 2 * truth), 1 - alpha + (2 * alpha - 1) * truth)
        return losses.sum((1, 2, 3)) / num_boxes

    @torch.no_grad()
    def cardinality_error(self, logits, sizes: list[int]):
        """By how many the queries with a class above one half are too many or too few, mean over the pictures → [L]"""
        predicted = (logits.amax(-1) > 0).sum(2)  # [L, B]
        wanted = torch.as_tensor(sizes, device=logits.device)  # [B]
        return (predicted - wanted).abs().to(logits.dtype).mean(1)


class QualityCriterion(FocalCriterion):
    """A class is as probable as its box is good (DEIM, arXiv 2412.04234, equation 3)."""

    def quality(self, iou, pairs: np.ndarray, shape: tuple[int, ...]):
        """IoU [L, M] of the boxes at `pairs` → [L, B, Q], a constant; 0 where a box has no object"""
        rows = np.full(np.prod(shape), len(pairs))
        rows[pairs] = np.arange(len(pairs))
        return torch.cat([iou.detach().flatten(), iou.new_zeros(1)])[rows].view(shape)

    def loss_labels(self, logits, wanted: np.ndarray, quality, others: float, num_boxes: float, processes: Processes):
        """As `FocalCriterion` has it. Args: quality [L, B, Q] of every query's box."""
        truth = torch.as_tensor(wanted[..., None] == np.arange(self.num_classes), device=logits.device)
        truth = truth.to(logits.dtype)  # [L, B, Q, C]
        goal = truth * quality[..., None] ** GAMMA
        weight = truth + (1 - truth) * logits.detach().sigmoid() ** GAMMA
        losses = weight * (goal * F.softplus(-logits) + (1 - goal) * F.softplus(logits))
        return losses.sum((1, 2, 3)) / num_boxes


def focal(wrong, share):
    """Focal loss with γ = 2 of the wrong answer's logits, times their weights"""
    return share * wrong.sigmoid() ** 2 * F.softplus(wrong)


def criterion_of(model: ModelConfig, loss: LossConfig, num_classes: int) -> Criterion:
    if model.decoder == "detr":
        return Criterion(loss, num_classes)
    by_class = QualityCriterion if loss.class_loss == "quality" else FocalCriterion
    kind = BoxCriterion if model.no_focal else by_class
    return kind(loss, num_classes, model.num_queries)
