"""The terms of the loss by their names, and what each is multiplied by in the sum."""

import re

import numpy as np

from detr_jittor.config.options import Config


def loss_weights(config: Config) -> dict[str, float]:
    """What each loss term is multiplied by, those of the auxiliary layers and of noisy copies like the last one's."""
    loss = config.loss
    each = loss.quality_loss_coef if loss.class_loss == "quality" else loss.focal_loss_coef
    return {"loss_ce": each if config.model.has_focal else 1.0, "loss_bbox": loss.bbox_loss_coef,
            "loss_giou": loss.giou_loss_coef, "loss_mask": loss.mask_loss_coef, "loss_dice": loss.dice_loss_coef}


def term(name: str) -> str:
    """The term of a loss by its name: that of loss_bbox_3, of an auxiliary layer, of loss_bbox_dn and of
    loss_bbox_enc is loss_bbox."""
    return re.sub(r"(_dn|_enc)?(_\d+)?$", "", name)


def weights_of(config: Config, names: list[str]) -> np.ndarray:
    """The coefficient of each loss in the sum; 0 for what is only logged → [len(names)] float32"""
    weights = loss_weights(config)
    return np.array([weights.get(term(name), 0.0) for name in names], np.float32)
