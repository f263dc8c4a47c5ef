"""The oracle's layers and optimizer step against PyTorch in float64 and cases worked out by hand."""

import math

import numpy as np
import pytest
import torch

from detr_jittor.reference.layers import attention, layer_norm, multi_head_attention, sine_position
from detr_jittor.reference.optim import adamw, clip_factor

RANDOM = np.random.default_rng(0)


def test_sine_position_by_hand():
    mask = np.zeros((1, 2, 3), bool)
    mask[0, :, 2] = True  # the third column is padding
    position = sine_position(mask, features=4)
    assert position.shape == (1, 8, 2, 3)
    last, first = 2 * math.pi * 2 / (2 + 1e-6), 2 * math.pi * 1 / (2 + 1e-6)  # y = 1 and x = 0 of two each
    frequencies = [1, 10000 ** -0.5]  # features 0 and 1 share one, 2 and 3 the next
    expected = [f(place * w) for place in (last, first) for w in frequencies for f in (math.sin, math.cos)]
    np.testing.assert_allclose(position[0, :, 1, 0], expected, atol=1e-14)
    np.testing.assert_array_equal(position[0, 4:, 0, 1], position[0, 4:, 0, 2])  # x stands still in the padding


def test_attention_by_hand():
    query, key, value = np.zeros((1, 4)), np.ones((3, 4)), np.array([[1.0], [2.0], [9.0]])
    assert attention(query, key, value)[0, 0] == pytest.approx(4)
    assert attention(query, key, value, np.array([False, False, True]))[0, 0] == pytest.approx(1.5)
    sharp = attention(np.array([[2.0, 0, 0, 0]]), np.array([[1.0, 0, 0, 0], [0.0, 0, 0, 0]]), value[:2])
    assert sharp[0, 0] == pytest.approx((1 * math.e + 2) / (math.e + 1))  # 2 · 1 / √4 = 1


@pytest.mark.parametrize("padded", [False, True])
def test_multi_head_attention_against_pytorch(padded):
    batch, queries, keys, width, heads = 2, 3, 5, 8, 4
    layer = torch.nn.MultiheadAttention(width, heads, dtype=torch.float64, batch_first=True).eval()
    torch.nn.init.normal_(layer.in_proj_bias)
    torch.nn.init.normal_(layer.out_proj.bias)
    query, key, value = (RANDOM.normal(size=(batch, n, width)) for n in (queries, keys, keys))
    mask = np.zeros((batch, keys), bool)
    mask[1, 3:] = padded
    theirs = layer(*(torch.tensor(a) for a in (query, key, value)), key_padding_mask=torch.tensor(mask))[0]
    weights = [p.detach().numpy() for p in (layer.in_proj_weight, layer.in_proj_bias,
                                            layer.out_proj.weight, layer.out_proj.bias)]
    ours = multi_head_attention(query, key, value, heads, *weights, mask)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-13)


@pytest.mark.parametrize("mean", [0, 1000])
def test_layer_norm_against_pytorch(mean):
    x, weight, bias = RANDOM.normal(mean, 1, size=(3, 4, 6)), RANDOM.normal(size=6), RANDOM.normal(size=6)
    theirs = torch.nn.functional.layer_norm(torch.tensor(x), (6,), torch.tensor(weight), torch.tensor(bias))
    np.testing.assert_allclose(layer_norm(x, weight, bias), theirs.numpy(), atol=1e-11)


@pytest.mark.parametrize("max_norm", [0, 0.1, 1e6])
def test_optimizer_steps_against_pytorch(max_norm):
    shapes = [(3, 2), (4,)]
    parameters = [RANDOM.normal(size=shape) for shape in shapes]
    theirs = [torch.tensor(p, requires_grad=True) for p in parameters]
    optimizer = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.3)
    moments = [(np.zeros(shape), np.zeros(shape)) for shape in shapes]
    for step in range(1, 6):
        gradients = [RANDOM.normal(size=shape) for shape in shapes]
        for p, g in zip(theirs, gradients):
            p.grad = torch.tensor(g)
        if max_norm:
            norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
            assert clip_factor(gradients, max_norm)[1] == pytest.approx(norm, rel=1e-13)
        optimizer.step()
        factor, _ = clip_factor(gradients, max_norm)
        for i, g in enumerate(gradients):
            parameters[i], *moments[i] = adamw(parameters[i], factor * g, *moments[i], step, 1e-2, 0.3)
            np.testing.assert_allclose(parameters[i], theirs[i].detach().numpy(), rtol=1e-12, atol=1e-15)


def test_clip_factor_by_hand():
    gradients = [np.array([3.0]), np.array([[4.0]])]
    assert clip_factor(gradients, 1) == (pytest.approx(1 / 5.000001), 5)
    assert clip_factor(gradients, 6) == (1, 5)
    assert clip_factor(gradients, 0) == (1, 5)
