"""The backbone's kernels against plain Jittor and float64: convolution + norm, trainable batch norm, max pooling."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against import compare

from detr_jittor.jt.kernels import fast, plain
from detr_jittor.jt.kernels.fast.library import reference_primitives, run
from detr_jittor.jt.setup.runtime import jt

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SEED = 3
rng = np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def own_numbers(monkeypatch):
    """Each test draws the same numbers, whichever ran before it."""
    monkeypatch.setitem(globals(), "rng", np.random.default_rng(SEED))


def normal(*shape, scale=1.0):
    return (rng.normal(size=shape) * scale).astype(np.float32)


def conv_inputs(b, ci, h, w, co, k, stride, padding, dilation, residual):
    ho, wo = ((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n in (h, w))
    return {"x": normal(b, ci, h, w), "weight": normal(co, ci, k, k, scale=(2 / (ci * k * k)) ** 0.5),
            "residual": normal(b, co, ho, wo) if residual else None}


SHAPES = [  # b, ci, h, w, co, k, stride, padding, dilation, residual, relu
    (2, 32, 13, 17, 64, 1, 1, 0, 1, True, True),
    (1, 64, 15, 21, 128, 1, 2, 0, 1, False, False),  # a downsample branch at an odd height
    (2, 64, 14, 9, 32, 1, 2, 0, 1, False, True),
    (2, 32, 13, 11, 32, 3, 1, 1, 1, False, True),
    (3, 32, 13, 11, 64, 3, 1, 1, 1, False, False),  # large enough for the Winograd kernel, and odd
    (2, 96, 15, 20, 160, 3, 1, 1, 1, True, True),  # several runs and tasks of the Winograd kernel
    (2, 32, 47, 51, 64, 3, 2, 1, 1, False, True),  # with stride 2, at odd sizes
    (1, 96, 64, 66, 160, 3, 2, 1, 1, True, True),  # and even ones
    (1, 48, 8, 7, 32, 3, 1, 1, 1, True, False),  # 48 channels: the direct algorithm
    (2, 32, 13, 11, 48, 3, 2, 1, 1, True, True),
    (1, 32, 9, 12, 32, 3, 1, 2, 2, True, True),  # DC5
    (1, 32, 1, 1, 32, 3, 1, 1, 1, False, True),  # one pixel
    (2, 3, 33, 47, 64, 7, 2, 3, 1, False, True),  # the stem
    (2, 32, 13, 17, 64, 1, 1, 0, 1, True, False),  # as the first, but for the ReLU: each has a primitive of its own
    (2, 32, 13, 11, 48, 3, 1, 1, 1, True, True),  # as the eighth, but for the stride
]


@pytest.mark.parametrize("shape", SHAPES)
def test_conv_norm(shape):
    *geometry, residual, relu = shape
    arrays = conv_inputs(*geometry, residual)
    co, (stride, padding, dilation) = geometry[4], geometry[6:]
    norm = {"gamma": np.abs(normal(co)) + 0.5, "beta": normal(co), "mean": normal(co), "var": np.abs(normal(co)) + 0.5}

    def ours(kernels, x, weight, residual, **norm):
        return kernels.conv_norm(x, weight, (*norm.values(),), stride, padding, dilation, residual, relu)

    def truth(x, weight, residual, gamma, beta, mean, var):
        y = F.batch_norm(F.conv2d(x, weight, None, stride, padding, dilation), mean, var, gamma, beta, False, 0.1, 1e-5)
        y = y if residual is None else y + residual
        return F.relu(y) if relu else y

    arrays |= norm
    fixed = (*norm, *["x"] * (geometry[1] == 3))  # pictures have no gradient
    compare(ours, truth, arrays, fixed, blocked=("x", "residual"))


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[3], SHAPES[5]])
def test_conv_batch_norm(shape):
    *geometry, residual, relu = shape
    arrays = conv_inputs(*geometry, residual)
    co, (stride, padding, dilation) = geometry[4], geometry[6:]
    arrays |= {"gamma": np.abs(normal(co)) + 0.5, "beta": normal(co)}
    running = {"mean": normal(co), "var": np.abs(normal(co)) + 0.5}
    moved = {}

    def ours(kernels, x, weight, residual, gamma, beta):
        mean, var = jt.array(running["mean"]), jt.array(running["var"])
        y = kernels.conv_batch_norm(x, weight, gamma, beta, mean, var, stride, padding, dilation, True, residual, relu)
        moved[kernels.__name__] = mean, var
        return y

    def truth(x, weight, residual, gamma, beta):
        mean, var = (torch.tensor(running[n], dtype=x.dtype) for n in ("mean", "var"))
        y = F.batch_norm(F.conv2d(x, weight, None, stride, padding, dilation), mean, var, gamma, beta, True, 0.1, 1e-5)
        moved["torch"] = mean, var
        y = y if residual is None else y + residual
        return F.relu(y) if relu else y

    compare(ours, truth, arrays, blocked=("x", "residual"))
    truth(**{n: None if a is None else torch.tensor(a, dtype=torch.float64) for n, a in arrays.items()})
    for kernels in (fast, plain):
        for mine, theirs in zip(moved[kernels.__name__], moved["torch"]):
            np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=3e-6, atol=3e-6)


def test_the_relu_of_a_batch_norm_does_not_hide_a_nan():
    """A run that has diverged is to be told, not to go on with zeros."""
    x, w = normal(1, 32, 5, 4), normal(32, 32, 1, 1)
    x[0, 3, 2, 1] = np.nan
    norm = (jt.ones(32), jt.zeros(32), jt.zeros(32), jt.ones(32))
    y = fast.leave(fast.conv_batch_norm(fast.enter(jt.array(x)), jt.array(w), *norm, 1, 0, 1, True))
    assert np.isnan(y.numpy()).all()


def test_conv_batch_norm_in_evaluation():
    arrays = conv_inputs(1, 32, 9, 7, 32, 3, 1, 1, 1, True)
    gamma, beta, mean, var = np.abs(normal(32)) + 0.5, normal(32), normal(32), np.abs(normal(32)) + 0.5
    x, weight, residual = (jt.array(arrays[n]) for n in ("x", "weight", "residual"))
    running = jt.array(mean), jt.array(var)
    y = fast.leave(fast.conv_batch_norm(fast.enter(x), weight, jt.array(gamma), jt.array(beta), *running, 1, 1, 1,
                                        False, fast.enter(residual), True))
    x, weight, residual, *norm = (torch.tensor(a).double() for a in (*arrays.values(), mean, var, gamma, beta))
    truth = F.relu(F.batch_norm(F.conv2d(x, weight, None, 1, 1), *norm, False, 0.1, 1e-5) + residual)
    np.testing.assert_allclose(y.numpy(), truth.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(running[0].numpy(), mean)


@pytest.mark.parametrize("shape", [(2, 32, 12, 9), (1, 16, 5, 4), (1, 64, 7, 30)])
def test_max_pool(shape):
    arrays = {"x": np.maximum(normal(*shape), 0)}  # many equal maxima: zeros
    compare(lambda kernels, x: kernels.max_pool(x), lambda x: F.max_pool2d(x, 3, 2, 1), arrays, blocked=("x",))


def test_fork():
    def ours(kernels, x):
        one, other = kernels.fork(x)
        return one * one - 3 * other

    compare(ours, lambda x: x * x - 3 * x, {"x": normal(2, 32, 5, 7)}, blocked=("x",))


def test_max_pooling_does_not_hide_a_nan():
    x = normal(1, 16, 9, 8)
    x[0, 5, 4, 4] = np.nan  # in the middle of one window, which comes to row 2 and column 2
    y = fast.leave(fast.max_pool(fast.enter(jt.array(x)))).numpy()
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 5, 2, 2]]


def test_frozen_weights_are_packed_anew_when_they_change():
    x, w = jt.array(normal(1, 32, 8, 8)), jt.array(normal(32, 32, 3, 3))
    one, zero = jt.ones(32), jt.zeros(32)

    def infer(kernels, scale=one):
        with jt.no_grad():
            return kernels.leave(kernels.conv_norm(kernels.enter(x), w, (scale, zero, zero, one), 1, 1, 1)).numpy()

    np.testing.assert_allclose(infer(fast), infer(plain), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(infer(fast), infer(plain), rtol=1e-5, atol=1e-4)
    w.assign(jt.array(normal(32, 32, 3, 3)))  # weights were loaded
    np.testing.assert_allclose(infer(fast), infer(plain), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(infer(fast, one * 2), infer(plain, one * 2), rtol=1e-5, atol=1e-4)  # other statistics
    moments = jt.zeros_like(w), jt.zeros_like(w)
    before = infer(fast)  # with the same statistics as after it: others alone would have them packed anew
    fast.adamw_step([w], [jt.ones_like(w)], [moments[0]], [moments[1]], [0.1], 0.0, 1, 0)  # a training step
    np.testing.assert_allclose(infer(fast), infer(plain), rtol=1e-5, atol=1e-4)
    assert not np.allclose(infer(fast), before)


def test_frozen_weights_are_packed_anew_for_another_algorithm():
    """A small map is for the direct one, a large one for Winograd's, each of which wants them in a form of its own."""
    w = jt.array(normal(32, 32, 3, 3))
    with jt.no_grad():
        for size in (8, 24, 8):
            x = jt.array(normal(1, 32, size, size))
            mine, reference = (kernels.leave(kernels.conv_norm(kernels.enter(x), w, (), 1, 1, 1)).numpy()
                               for kernels in (fast, plain))
            np.testing.assert_allclose(mine, reference, rtol=1e-5, atol=1e-4)


def backbone_layers(depths, bottleneck, dilation, h, w):
    """(ci, h, w, co, k, stride, padding, dilation) of every convolution of a ResNet after the first pooling"""
    h, w, inputs = (h + 3) // 4, (w + 3) // 4, 64
    for i, depth in enumerate(depths):
        width = 64 * 2**i
        outputs = width * 4 if bottleneck else width
        for j in range(depth):
            dilated = dilation and i == 3
            stride, d = (2 if i and not j and not dilated else 1), (2 if dilated and j else 1)
            if bottleneck:
                yield inputs, h, w, width, 1, 1, 0, 1
            yield (width if bottleneck else inputs), h, w, width, 3, stride, d, d
            if inputs != outputs or stride > 1:
                yield inputs, h, w, outputs, 1, stride, 0, 1
            h, w = (h - 1) // stride + 1, (w - 1) // stride + 1
            yield (width, h, w, outputs, 1, 1, 0, 1) if bottleneck else (width, h, w, width, 3, 1, d, d)
            inputs = outputs


@pytest.mark.parametrize("size", [(480, 640), (800, 1066), (481, 607), (1333, 777), (65, 97), (64, 96), (32, 40)])
@pytest.mark.parametrize("dilation", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_layer_falls_back_to_reference_code(size, dilation, precision, request):
    """R18, R34, R50 and R101 have the same layers, apart from how many."""
    if precision == "bfloat16":
        request.getfixturevalue("bfloat16")
    layers = {layer for bottleneck in (False, True)
              for layer in backbone_layers((2, 2, 2, 2), bottleneck, dilation, *size)}
    layers.add((3, *size, 64, 7, 2, 3, 1))
    assert len(layers) > 20
    before = reference_primitives()
    for layer in sorted(layers):
        assert 0 < make(2, *layer) <= 512
        assert reference_primitives() == before, layer


def make(b, ci, h, w, co, k, *geometry) -> int:
    """How many primitives are at hand, after those of this layer were made"""
    arrays = [jt.empty((b, ci, h, w)), jt.empty((co, ci, k, k))]
    return int(run("make_convolution", arrays, [(1,)], *geometry)[0].item())


def test_what_has_only_reference_code_is_right_and_told():
    """A filter that is not square to its padding, dilated and strided: no layer of a ResNet."""
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import against
        from test_kernels_backbone import reference_primitives, test_conv_norm
        against.IMPLEMENTATIONS = against.fast, against.plain  # the card's are emulated in conftest.py
        shapes = [(1, 16, 9, 11, 16, 3, 2, 1, 3, False, True), (1, 16, 12, 11, 16, 3, 1, 1, 4, True, True)]
        counts = []
        for shape in shapes:
            test_conv_norm(shape)
            counts.append(reference_primitives())
        print(counts)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300,
                          env=os.environ | {"DETR_ISA": "avx2"})
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert 0 < first < second and done.stderr.count("computes it slowly") == 1


def test_primitives_are_kept_within_a_bound():
    for width in range(4, 200):
        count = make(1, 16, 2, width, 16, 1, 1, 0, 1)
    assert count == 512  # 196 sizes of four primitives each were made


@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_in_bfloat16_err_as_torch_does_in_bfloat16(shape, bfloat16):
    *geometry, residual, relu = shape
    arrays = conv_inputs(*geometry, residual)
    stride, padding, dilation = geometry[6:]
    inputs = {n: None if a is None else jt.array(a) for n, a in arrays.items()}
    x, residual = (None if inputs[n] is None else fast.enter(inputs[n]) for n in ("x", "residual"))
    y = fast.leave(fast.conv_norm(x, inputs["weight"], (), stride, padding, dilation, residual, relu))
    gradient = normal(*y.shape)  # not zero where the ReLU cuts
    grads = jt.grad((y * jt.array(gradient)).sum(), [inputs["weight"]] + [inputs["x"]] * (geometry[1] > 3))

    def torch_results(dtype):
        x, weight = (torch.tensor(arrays[n], dtype=dtype, requires_grad=True) for n in ("x", "weight"))
        y = F.conv2d(x, weight, None, stride, padding, dilation).to(torch.float32 if dtype == torch.bfloat16 else dtype)
        y = y if residual is None else y + torch.tensor(arrays["residual"])
        y = F.relu(y) if relu else y
        (y * torch.tensor(gradient)).sum().backward()
        return [t.detach().double().numpy() for t in (y, weight.grad, x.grad)]

    for mine, theirs, truth in zip([y, *grads], torch_results(torch.bfloat16), torch_results(torch.float64)):
        scale = np.sqrt((truth**2).mean())
        error, allowed = (np.sqrt(((v - truth) ** 2).mean()) / scale for v in (mine.numpy(), theirs))
        assert error <= max(1.5 * allowed, 4e-3)
        assert error > 1e-5  # it was bfloat16 indeed


def test_a_block_in_bfloat16(bfloat16):
    """Activations are bfloat16 from one convolution to the next, pooling and residual included; values and gradients
    err as torch's do where all is bfloat16."""
    arrays = {n: normal(*shape, scale=(2 / np.prod(shape[1:])) ** 0.5) for n, shape in
              {"stem": (32, 3, 7, 7), "down": (64, 32, 1, 1), "one": (32, 32, 1, 1), "two": (32, 32, 3, 3),
               "three": (64, 32, 1, 1)}.items()}
    x, gradient = normal(2, 3, 50, 62), normal(2, 64, 7, 8)

    def block(x, w, conv, pool, fork, enter, leave):
        y = pool(conv(enter(x), w["stem"], 2, 3))
        y, identity = fork(y)
        identity = conv(identity, w["down"], 2, 0, relu=False)
        y = conv(conv(y, w["one"], 1, 0), w["two"], 2, 1)
        return leave(conv(y, w["three"], 1, 0, identity))

    written = []

    def ours(x, weight, stride, padding, residual=None, relu=True):
        y = fast.conv_norm(x, weight, (), stride, padding, 1, residual, relu)
        written.append(str(y.dtype))
        return y

    def truth(x, weight, stride, padding, residual=None, relu=True):
        y = F.conv2d(x, weight, None, stride, padding)
        y = y if residual is None else y + residual
        return F.relu(y) if relu else y

    weights = {n: jt.array(a) for n, a in arrays.items()}
    weights["stem"].stop_grad()  # as the first layers are: what they write comes from no graph
    y = block(jt.array(x), weights, ours, fast.max_pool, fast.fork, fast.enter, fast.leave)
    trained = list(weights)[1:]
    grads = jt.grad((y * jt.array(gradient)).sum(), [weights[n] for n in trained])
    assert written == ["bfloat16"] * 5

    def torch_results(dtype):
        exact = {n: torch.tensor(a).to(dtype).requires_grad_() for n, a in arrays.items()}
        y = block(torch.tensor(x).to(dtype), exact, truth, lambda x: F.max_pool2d(x, 3, 2, 1), lambda x: (x, x),
                  lambda x: x, lambda x: x)
        (y.double() * torch.tensor(gradient)).sum().backward()
        return [t.detach().double().numpy() for t in (y, *(exact[n].grad for n in trained))]

    for mine, theirs, right in zip([y, *grads], torch_results(torch.bfloat16), torch_results(torch.float64)):
        error, allowed = (np.sqrt(((v - right) ** 2).mean() / (right**2).mean()) for v in (mine.numpy(), theirs))
        assert 1e-5 < error < 1.1 * allowed  # measured: .95 at most


def test_a_trained_norm_after_products_of_bfloat16(bfloat16):
    """Its statistics are of numbers that were not rounded."""
    x, w = normal(2, 32, 13, 11), normal(48, 32, 3, 3, scale=0.1)
    norm = jt.ones(48), jt.zeros(48), jt.zeros(48), jt.ones(48)
    y = fast.leave(fast.conv_batch_norm(fast.enter(jt.array(x)), jt.array(w), *norm, 1, 1, 1, True)).numpy()
    rounded = (torch.tensor(a).bfloat16().double() for a in (x, w))
    truth = F.relu(F.batch_norm(F.conv2d(*rounded, None, 1, 1), None, None, training=True)).numpy()
    np.testing.assert_allclose(y, truth, rtol=1e-5, atol=1e-5)  # measured: 3e-6


@pytest.mark.parametrize("shape", [(2, 32, 12, 9), (1, 16, 5, 4), (1, 64, 7, 30)])
def test_max_pool_in_bfloat16(shape, bfloat16):
    """Of numbers that are bfloat16 it is exact."""
    x = normal(*shape)
    x[0, 5, 2, 2] = np.nan
    one = np.eye(shape[1], dtype=np.float32)[:, :, None, None]
    with jt.no_grad():
        y = fast.conv_norm(fast.enter(jt.array(x)), jt.array(one), (), 1, 0, 1, relu=False)
        pooled = fast.max_pool(y)
    assert (str(y.dtype), str(pooled.dtype)) == ("bfloat16", "bfloat16")
    wanted = F.max_pool2d(torch.tensor(fast.leave(y).numpy()), 3, 2, 1).numpy()
    assert np.isnan(wanted).any()
    np.testing.assert_array_equal(fast.leave(pooled).numpy(), wanted)


def test_the_precision_may_change_while_weights_are_kept():
    """Primitives and packed weights of one precision are of no use to the other."""
    x, w = normal(1, 48, 9, 8), normal(64, 48, 1, 1, scale=0.1)
    rows, matrix, bias = map(jt.array, (normal(30, 48), normal(64, 48), normal(64)))
    weight, found = jt.array(w), []
    with jt.no_grad():
        for wanted in (False, True, False):
            if not fast.multiply_bfloat16(wanted):
                pytest.skip("the processor has no bfloat16")
            y = fast.leave(fast.conv_norm(fast.enter(jt.array(x)), weight, (), 1, 0, 1))
            found.append((y.numpy(), fast.linear(rows, matrix, bias).numpy()))
    for before, rounded, after in zip(*found):
        np.testing.assert_array_equal(before, after)
        assert 1e-4 < np.abs(rounded - before).max() / np.abs(before).max() < 1e-2


def test_bfloat16_does_not_hide_a_nan(bfloat16):
    """This one would become -0 if it were rounded like a number."""
    x = normal(1, 32, 5, 4)
    x[0, 3, 2, 1] = np.array(0x7FFFFFFF, np.uint32).view(np.float32)
    y = fast.leave(fast.conv_norm(fast.enter(jt.array(x)), jt.array(normal(32, 32, 1, 1)), (), 1, 0, 1, relu=False))
    assert np.isnan(y.numpy()[0, :, 2, 1]).all()


@pytest.mark.parametrize("shape", [
    (2, 64, 2, 3, 32, 3, 1, 1, 1, True, True), (2, 32, 2, 5, 64, 3, 2, 1, 1, False, True),
    (1, 32, 4, 6, 32, 3, 1, 2, 2, False, False), (2, 3, 5, 9, 32, 7, 2, 3, 1, False, True)])
def test_maps_that_are_lower_than_the_filter(shape):
    """As the last stage has for a picture of 64 pixels."""
    test_conv_norm(shape)


@pytest.mark.parametrize("shape", [
    (2, 64, 2, 3, 32, 3, 1, 1, 1, True, True), (1, 32, 4, 6, 32, 3, 1, 2, 2, False, True)])
def test_low_maps_in_bfloat16(shape, bfloat16):
    test_convolutions_in_bfloat16_err_as_torch_does_in_bfloat16(shape, bfloat16)
