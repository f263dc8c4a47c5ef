"""The PyTorch twin as ONNX. Jittor writes none; weights that it has trained come here like any others.

B batch, H and W height and width, Q queries, C classes.
"""

import io
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from detr_jittor.twin.recorder import replaced

OPSET = 17  # the first with layer norm
EXAMPLE = (2, 64, 96)  # B, H, W of the pictures with which the model is traced; in the file all three are free
AXES = {"images": {0: "batch", 2: "height", 3: "width"}, "mask": {0: "batch", 1: "height", 2: "width"},
        "logits": {0: "batch", 1: "queries"}, "boxes": {0: "batch", 1: "queries"},
        "masks": {0: "batch", 1: "queries", 2: "mask_height", 3: "mask_width"}}


class LastLayer(nn.Module):
    """What a deployed model says: the outputs of the last decoder layer, and the masks of all queries, if any."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images, mask):
        """[B, 3, H, W] and [B, H, W] bool → logits [B, Q, C + 1], boxes [B, Q, 4] and masks [B, Q, H / 4, W / 4]"""
        logits, boxes, *seen = self.model(images, mask)
        if not hasattr(self.model, "masks"):
            return logits[-1], boxes[-1]
        _, b, q, _ = logits.shape
        masks = self.model.masks(*seen, torch.arange(b * q))  # [B·Q, H / 4, W / 4]
        return logits[-1], boxes[-1], masks.reshape(b, q, *masks.shape[1:])


def nearest(x, size):
    """[N, C, h, w] at another size, at the places that PyTorch takes; ONNX's own resize rounds some otherwise"""
    for axis, new in zip((2, 3), size):
        x = x.index_select(axis, (torch.arange(new) * (x.shape[axis] / new)).long())
    return x


def to_onnx(model: nn.Module, masks: bool) -> bytes:
    """The model in evaluation mode, on the CPU, as the content of an ONNX file.

    Args:
        masks: whether it is one with masks.
    """
    b, h, w = EXAMPLE
    padding = torch.zeros(b, h, w, dtype=torch.bool)
    padding[1, h // 2:] = True
    names = ["logits", "boxes", "masks"] if masks else ["logits", "boxes"]
    file = io.BytesIO()
    with replaced(F, "interpolate", nearest), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, that some numbers are fixed, as they are
        torch.onnx.export(LastLayer(model).eval(), (torch.zeros(b, 3, h, w), padding), file, opset_version=OPSET,
                          input_names=["images", "mask"], output_names=names, dynamo=False,
                          dynamic_axes={name: AXES[name] for name in ("images", "mask", *names)})
    return file.getvalue()
