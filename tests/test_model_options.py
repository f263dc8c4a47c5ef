"""Every option of the model changes what it says, in both twins, or is refused with the reason.

A new option without a case here fails.
"""

import numpy as np
import pytest
from small import SMALL, small_batch, small_state

from detr_jittor.config.check import check
from detr_jittor.config.options import Config, ModelConfig
from detr_jittor.errors import DetrError
from detr_jittor.jt.twin import JittorTwin

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip  (jittor first)

pytestmark = pytest.mark.slow

TWINS = {"jittor": JittorTwin, "pytorch": PyTorchTwin}
BASE = SMALL.replace(enc_layers=1, dropout=0.0, dropout_masks="native")
BATCH = small_batch(3, masks=True)


class Seen:
    """What can be seen of a model with some options, with weights of one seed."""

    def __init__(self, framework: str, options: dict):
        self.config = BASE.replace(**options)
        twin = TWINS[framework](self.config, self.config.model.num_classes)
        twin.load(small_state(twin))
        self.twin, self.shapes = twin, {n: v.shape for n, v in twin.state().model.items()}
        self.outputs, self.attention = twin.attend(BATCH)
        self.losses = twin.evaluate(BATCH)[1]

    def step(self) -> dict[str, float]:
        """The losses of a training step from these weights."""
        before = self.twin.state()
        log = self.twin.train_step(BATCH, 7, 1.0)
        self.twin.load(before)
        return log

    def has(self, name: str) -> bool:
        return any(name in n for n in self.shapes)

    def places(self) -> tuple[int, int]:
        """The size of the last feature map; the batch has 64 × 96 pixels."""
        return self.attention.decoder.shape[2:]


def trained(seen: Seen, part: str) -> bool:
    return any(part in name for name in seen.twin.trained)


def losses_in_training_differ(seen: Seen) -> bool:
    return abs(seen.step()["loss"] / seen.losses["loss"] - 1) > 1e-4


MODEL = {  # option → (options, what must be true with them and not without)
    "backbone": ({"backbone": "resnet34"}, lambda s: s.has("layer3.5.conv2")),
    "dilation": ({"dilation": True}, lambda s: s.places() == (4, 6)),
    "backbone_norm": ({"backbone_norm": "batch"}, lambda s: trained(s, "layer1.0.bn1.weight")),
    "backbone_stages": ({"backbone_stages": 3}, lambda s: s.places() == (4, 6) and not s.has("layer4")),
    "position_embedding": ({"position_embedding": "learned"}, lambda s: trained(s, "backbone.1.row_embed.weight")),
    "enc_layers": ({"enc_layers": 0}, lambda s: s.attention.encoder is None and not s.has("encoder")),
    "dec_layers": ({"dec_layers": 3}, lambda s: "loss_giou_1" in s.losses and s.has("decoder.layers.2")),
    "dim_feedforward": ({"dim_feedforward": 96}, lambda s: s.shapes["transformer.decoder.layers.0.linear1.weight"]
                        == (96, 64)),
    "hidden_dim": ({"hidden_dim": 96}, lambda s: s.shapes["query_embed.weight"] == (20, 96)),
    "dropout": ({"dropout": 0.5}, losses_in_training_differ),
    "nheads": ({"nheads": 2}, None),
    "num_queries": ({"num_queries": 7}, lambda s: s.outputs.boxes.shape == (2, 7, 4)),
    "pre_norm": ({"pre_norm": True}, lambda s: s.has("transformer.encoder.norm.weight")),
    "masks": ({"masks": True, "hidden_dim": 128, "nheads": 8},
              lambda s: s.outputs.masks is not None and s.losses["loss_dice"] > 0),
    "num_classes": ({"num_classes": 20}, lambda s: s.outputs.logits.shape == (2, 20, 21)),
    "decoder": ({"decoder": "box"}, lambda s: s.outputs.each and s.has("box_delta") and s.has("transformer.maps.1")),
    "no_conditional": ({"decoder": "box", "no_conditional": True},
                       lambda s: s.has("box_delta") and not s.has("key_place")),
    "no_sampling": ({"decoder": "box", "no_sampling": True},
                    lambda s: s.has("box_delta") and not s.has("transformer.maps")),
    "no_focal": ({"decoder": "box", "no_focal": True}, lambda s: s.has("box_delta") and s.has("class_embed")),
    "layer_heads": ({"decoder": "box", "layer_heads": "own"},
                    lambda s: s.has("box_heads.0") and s.has("class_heads.0")),
    "query_groups": ({"decoder": "box", "query_groups": 3}, lambda s: s.shapes.get("group_box.weight") == (40, 4)),
    "query_boxes": ({"decoder": "box", "query_boxes": "proposals"},
                    lambda s: s.has("proposals") and not s.has("query_box") and "loss_giou_enc" in s.step()),
    "denoising": ({"decoder": "box", "denoising": 2}, lambda s: s.has("label_embed") and "loss_giou_dn" in s.step()),
}


@pytest.fixture(scope="module", params=TWINS)
def base(request) -> tuple[str, Seen]:
    return request.param, Seen(request.param, {})


@pytest.mark.parametrize("option", MODEL)
def test_an_option_of_the_model(base, option):
    framework, without = base
    options, says = MODEL[option]
    check(BASE.replace(**options))
    seen = Seen(framework, options)
    assert np.isfinite(seen.losses["loss"])
    if says:
        assert says(seen) and not says(without)
    # whatever it says besides: the model is another one
    same_shape = seen.outputs.logits.shape == without.outputs.logits.shape
    if same_shape and option not in ("dropout", "backbone_norm"):
        assert np.abs(seen.outputs.logits - without.outputs.logits).max() > 1e-3


def test_every_option_of_the_model_has_a_case():
    assert MODEL.keys() == ModelConfig.__dataclass_fields__.keys()


def test_auxiliary_losses_can_be_left_out(base):
    _, seen = base
    seen.twin.config = seen.config.replace(no_aux_loss=True)
    last = seen.twin.evaluate(BATCH)[1]
    seen.twin.config = seen.config
    assert {name for name in seen.losses if name not in last} == {"loss_ce_0", "loss_bbox_0", "loss_giou_0",
                                                                 "cardinality_error_0"}
    c, left_out = seen.config.loss, {n: seen.losses[n] for n in seen.losses if n not in last}
    weighted = left_out["loss_ce_0"] + c.bbox_loss_coef * left_out["loss_bbox_0"] \
        + c.giou_loss_coef * left_out["loss_giou_0"]
    assert seen.losses["loss"] - last["loss"] == pytest.approx(weighted, rel=1e-4)


@pytest.mark.parametrize("options, reason", [
    ({"hidden_dim": 60, "nheads": 8}, "not divisible by --nheads 8"),
    ({"hidden_dim": 6, "nheads": 2}, "not divisible by 4, as --position_embedding sine needs"),
    ({"hidden_dim": 7, "nheads": 1, "position_embedding": "learned"}, "not divisible by 2"),
    ({"dilation": True, "backbone_stages": 3}, "goes with all four stages"),
    ({"masks": True, "backbone_stages": 3}, "--masks needs all four stages"),
    ({"masks": True, "hidden_dim": 64}, "divisible by 128"),
    ({"masks": True, "nheads": 4}, "--nheads by 8"),
    ({"enc_layers": -1}, "less than 0"), ({"dec_layers": 0}, "less than 1"), ({"num_queries": 0}, "less than 1"),
    ({"dim_feedforward": 0}, "less than 1"), ({"num_classes": 0}, "is less than 1. Give the largest"),
    ({"dropout": 1.0}, "not in 0 … 1"),
    ({"frozen_weights": "detector.pth"}, "which needs --masks"),
])
def test_what_cannot_be_is_refused_with_the_reason(options, reason):
    with pytest.raises(DetrError, match=reason):
        check(Config().replace(**options))


def test_learned_positions_have_an_end():
    """50 rows and columns of stride 32 are 1600 pixels; further ones have no vector, and that is told."""
    check(Config().replace(position_embedding="learned", max_size=1600))
    with pytest.raises(DetrError, match="50 rows and columns"):
        check(Config().replace(position_embedding="learned", max_size=1632))
    with pytest.raises(DetrError, match="50 rows and columns"):
        check(Config().replace(position_embedding="learned", dilation=True))
