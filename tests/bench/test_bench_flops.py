"""The arithmetic of DETR against figures counted by hand."""

import pytest

from detr_jittor.bench import flops
from detr_jittor.config.options import Config

# An 18-layer backbone without its last stage on 64×64: 32, 16, 16, 8, 4 pixels a side.
TINY = Config().replace(backbone="resnet18", backbone_stages=3, backbone_norm="frozen", hidden_dim=8, nheads=2,
                        dim_feedforward=16, enc_layers=1, dec_layers=2, num_queries=5)
STEM = 2 * 32 * 32 * 3 * 64 * 49
LAYER1 = 4 * 2 * 16 * 16 * 64 * 64 * 9
LAYER2 = [2 * 8 * 8 * 64 * 128 * 1, 2 * 8 * 8 * 64 * 128 * 9, *[2 * 8 * 8 * 128 * 128 * 9] * 3]
LAYER3 = [2 * 4 * 4 * 128 * 256 * 1, 2 * 4 * 4 * 128 * 256 * 9, *[2 * 4 * 4 * 256 * 256 * 9] * 3]
ENCODER = 2 * 4 * 16 * 8 * 8 + 2 * 2 * 16 * 16 * 8 + 2 * 2 * 16 * 8 * 16
DECODER = (2 * 4 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 8  # self-attention
           + 2 * 2 * 5 * 8 * 8 + 2 * 2 * 16 * 8 * 8 + 2 * 2 * 5 * 16 * 8  # cross-attention
           + 2 * 2 * 5 * 8 * 16)
HEADS = 2 * 5 * (8 * 4 + 8 * 8 + 8 * 8 + 8 * 4)  # three classes and "no object"; three layers to four numbers
REST = 2 * 16 * 256 * 8 + ENCODER + 2 * (DECODER + HEADS)


def test_a_forward_pass():
    wanted = STEM + LAYER1 + sum(LAYER2) + sum(LAYER3) + REST
    assert flops.inference(TINY, 3, 1, 64, 64) == wanted
    assert flops.inference(TINY, 3, 4, 64, 64) == 4 * wanted


def test_a_training_step():
    # conv1 and layer1 are frozen; what enters layer2 wants no gradient, so the two that read it have only their own
    wanted = STEM + LAYER1 + 2 * sum(LAYER2[:2]) + 3 * (sum(LAYER2[2:]) + sum(LAYER3) + REST)
    assert flops.training(TINY, 3, 1, 64, 64) == wanted


def test_a_training_step_of_a_backbone_that_is_trained_whole():
    config = TINY.replace(backbone_norm="batch")
    assert flops.training(config, 3, 1, 64, 64) == 2 * STEM + 3 * (LAYER1 + sum(LAYER2) + sum(LAYER3) + REST)


def test_detr_r50():
    """58 GFLOP forward at 480×640, and the paper's 86 G multiply-adds at 800×1066."""
    config = Config().replace(backbone_norm="frozen")
    assert flops.inference(config, 91, 1, 480, 640) / 1e9 == pytest.approx(58, abs=0.5)
    assert flops.training(config, 91, 2, 480, 640) / 1e9 == pytest.approx(306, abs=0.5)
    assert flops.inference(config, 91, 1, 800, 1066) / 2e9 == pytest.approx(86, rel=0.07)


def test_dilation_keeps_the_resolution():
    dc5 = Config().replace(backbone_norm="frozen", dilation=True)
    assert flops.backbone(dc5, 480, 640)[1:] == (30, 40, 2048)
    assert flops.backbone(Config().replace(backbone_norm="frozen"), 480, 640)[1:] == (15, 20, 2048)
