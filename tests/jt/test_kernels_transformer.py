"""The transformer's kernels and the optimizer against plain Jittor and float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from against import compare

from detr_jittor.jt.kernels import cuda, fast, plain
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin import seeding

pytestmark = pytest.mark.slow

SEED = 5
rng = np.random.default_rng(SEED)
KEY = 0x9ABCDEF1


@pytest.fixture(autouse=True)
def own_numbers(monkeypatch):
    """Each test draws the same numbers, whichever ran before it."""
    monkeypatch.setitem(globals(), "rng", np.random.default_rng(SEED))


def normal(*shape, scale=1.0):
    return (rng.normal(size=shape) * scale).astype(np.float32)


def keep(p, shape):
    """The factor of every element under dropout."""
    return torch.tensor(seeding.keep_mask(KEY, p, tuple(shape)) / (1 - p))


@pytest.mark.parametrize("rows, k, n, relu", [((2, 37), 48, 80, False), ((2, 37), 48, 80, True), ((1,), 5, 3, True),
                                              ((6, 2, 10), 256, 4, False), ((2, 300), 256, 92, True)])
def test_linear(rows, k, n, relu):
    arrays = {"x": normal(*rows, k), "weight": normal(n, k, scale=k**-0.5), "bias": normal(n)}

    def truth(x, weight, bias):
        y = F.linear(x, weight, bias)
        return F.relu(y) if relu else y

    compare(lambda kernels, **v: kernels.linear(*v.values(), relu), truth, arrays)


def test_the_relu_of_a_linear_layer_does_not_hide_a_nan():
    """A run that has diverged is to be told, not to go on with zeros."""
    x, w, v, b = normal(5, 48), normal(64, 48), normal(48, 64), normal(64)
    x[2, 7] = np.nan
    one = fast.linear(*map(jt.array, (x, w, b)), True).numpy()
    two = fast.feed_forward(*map(jt.array, (x, w, b, v, b[:48])), 0.0, 0).numpy()
    for y in (one, two):
        assert [np.isnan(row).all() for row in y] == [False, False, True, False, False]
        assert np.isfinite(np.delete(y, 2, 0)).all()


@pytest.mark.parametrize("rows, keys, d", [(7, 19, 24), (100, 300, 256), (1, 1, 8)])
def test_projections(rows, keys, d):
    arrays = {"query": normal(2, rows, d), "key": normal(2, keys, d), "value": normal(2, keys, d),
              "weight": normal(3 * d, d, scale=d**-0.5), "bias": normal(3 * d)}

    def truth(query, key, value, weight, bias):
        parts = zip((query, key, value), weight.chunk(3), bias.chunk(3))
        return torch.cat([F.linear(x, w, b).flatten() for x, w, b in parts])

    compare(lambda kernels, **v: jt.concat([y.flatten() for y in kernels.projections(*v.values())]), truth, arrays)


@pytest.mark.parametrize("b, s, d, f, p", [(2, 19, 32, 64, 0.0), (2, 19, 32, 64, 0.3), (1, 1, 16, 24, 0.1),
                                           (1, 100, 256, 2048, 0.1)])
def test_feed_forward(b, s, d, f, p):
    arrays = {"x": normal(b, s, d), "w1": normal(f, d, scale=d**-0.5), "b1": normal(f),
              "w2": normal(d, f, scale=f**-0.5), "b2": normal(d)}

    def truth(x, w1, b1, w2, b2):
        h = F.relu(F.linear(x, w1, b1))
        return F.linear(h * keep(p, h.shape).to(h.dtype), w2, b2)

    compare(lambda kernels, **v: kernels.feed_forward(*v.values(), p, KEY), truth, arrays)
    with jt.no_grad():
        value = fast.feed_forward(*(jt.array(a) for a in arrays.values()), p, KEY).numpy()
    np.testing.assert_allclose(value, truth(**{n: torch.tensor(a) for n, a in arrays.items()}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows, k, n", [(37, 48, 80), (1, 5, 3), (300, 256, 92), (32, 32, 32)])
def test_linear_layers_in_bfloat16_err_as_torch_does_in_bfloat16(rows, k, n, bfloat16):
    shapes = (rows, k), (n, k), (k, n), (n,), (k,)
    arrays = [np.random.default_rng(3).normal(size=s).astype(np.float32) / s[-1] ** 0.5 for s in shapes]
    gradient = np.random.default_rng(4).normal(size=(rows, n)).astype(np.float32)

    x, w, v, b, c = (jt.array(a) for a in arrays)
    one, two = fast.linear(x, w, b), fast.feed_forward(x, w, b, v, c, 0.0, 0)
    mine = [one, two, *jt.grad((one * jt.array(gradient)).sum(), [x, w]), *jt.grad((two * x).sum(), [w, v])]

    def torch_results(dtype):
        x, w, v, b, c = (torch.tensor(a, dtype=dtype, requires_grad=True) for a in arrays)
        one = F.linear(x, w, b)
        two = F.linear(F.relu(F.linear(x, w, b)), v, c)
        grads = [*torch.autograd.grad((one * torch.tensor(gradient, dtype=dtype)).sum(), [x, w]),
                 *torch.autograd.grad((two * x).sum(), [w, v])]
        return [t.detach().double().numpy() for t in (one, two, *grads)]

    for value, theirs, truth in zip(mine, torch_results(torch.bfloat16), torch_results(torch.float64)):
        scale = np.sqrt((truth**2).mean())
        error, allowed = (np.sqrt(((a - truth) ** 2).mean()) / scale for a in (value.numpy(), theirs))
        assert 1e-5 < error <= max(1.2 * allowed, 2e-3)


@pytest.mark.parametrize("b, lq, lk, d, heads, mask, p", [
    (2, 13, 17, 32, 4, None, 0.0),
    (2, 13, 17, 32, 4, "some", 0.0),
    (3, 13, 17, 32, 4, "one picture fully", 0.2),
    (1, 1, 1, 16, 8, None, 0.0),
    (1, 1, 37, 256, 8, "none", 0.1),
    (2, 200, 131, 64, 8, "some", 0.1),  # several tiles of queries
    (1, 100, 300, 256, 8, "all", 0.0),
])
def test_attention(b, lq, lk, d, heads, mask, p):
    arrays = {"q": normal(b, lq, d, scale=2), "k": normal(b, lk, d), "v": normal(b, lk, d)}
    ignored = None if mask is None else np.zeros((b, lk), bool)
    if mask == "some":
        ignored = np.arange(lk)[None] >= np.linspace(lk // 2, lk, b).astype(int)[:, None]
    elif mask == "one picture fully":
        ignored[1] = True
    elif mask == "all":
        ignored[:] = True
    arrays["mask"] = ignored

    def truth(q, k, v, mask):
        q, k, v = (x.reshape(b, -1, heads, d // heads).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(2, 3) * (d // heads) ** -0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, None], -1e30)
        weights = scores.softmax(-1)
        if mask is not None:
            weights = weights * ~mask[:, None, None]
        weights = weights * keep(p, weights.shape).to(weights.dtype)
        return (weights @ v).transpose(1, 2).reshape(b, lq, d)

    compare(lambda kernels, **a: kernels.attention(*a.values(), heads, p, KEY), truth, arrays,
            cancels=("q", "k") if lk == 1 else ())


@pytest.mark.parametrize("b, lq, lk, d, heads", [(2, 13, 17, 32, 4), (1, 1, 37, 256, 8), (2, 200, 131, 64, 8)])
def test_attention_in_bfloat16_errs_as_torch_does_in_bfloat16(b, lq, lk, d, heads, bfloat16):
    """Where no gradient is wanted; a row whose keys are all ignored is zero here too."""
    arrays = [normal(b, lq, d, scale=2), normal(b, lk, d), normal(b, lk, d)]
    ignored = np.arange(lk)[None] >= np.linspace(lk // 2, lk, b).astype(int)[:, None]

    def torch_results(dtype):
        q, k, v = (torch.tensor(a).to(dtype).reshape(b, -1, heads, d // heads).transpose(1, 2) for a in arrays)
        y = F.scaled_dot_product_attention(q, k, v, ~torch.tensor(ignored)[:, None, None])
        return y.transpose(1, 2).reshape(b, lq, d).double().numpy()

    truth = torch_results(torch.float64)
    q, k, v = (jt.array(a) for a in arrays)
    with jt.no_grad():
        mine = fast.attention(q, k, v, jt.array(ignored), heads, 0.0, KEY).numpy()
        nothing = fast.attention(q, k, v, jt.ones((b, lk)).bool(), heads, 0.0, KEY).numpy()
    trained = fast.attention(q, k, v, jt.array(ignored), heads, 0.0, KEY).numpy()
    error, exact, allowed = (np.sqrt(((y - truth) ** 2).mean()) for y in (mine, trained, torch_results(torch.bfloat16)))
    assert 100 * exact < error < 1.1 * allowed
    assert not nothing.any()


def test_attention_with_scores_far_from_zero():
    """The largest score is taken off before the exponential, so that nothing overflows."""
    arrays = {"q": normal(1, 9, 32, scale=40), "k": normal(1, 11, 32, scale=40), "v": normal(1, 11, 32)}

    def truth(q, k, v):
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]

    compare(lambda kernels, **a: kernels.attention(*a.values(), None, 1, 0.0, 0), truth, arrays)


@pytest.mark.parametrize("shape, mean", [((2, 7, 256), 0), ((1, 33), 100), ((5, 16), 10)])
def test_layer_norm(shape, mean):
    arrays = {"x": normal(*shape) + np.float32(mean), "weight": normal(shape[-1]), "bias": normal(shape[-1])}
    compare(lambda kernels, **v: kernels.layer_norm(*v.values()),
            lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias), arrays)


@pytest.mark.parametrize("shape, groups, mean", [((2, 64, 9, 7), 32, 0), ((1, 24, 5, 33), 8, 100),
                                                 ((3, 6, 1, 1), 2, 10)])
def test_group_norm(shape, groups, mean):
    arrays = {"x": normal(*shape) + np.float32(mean), "weight": normal(shape[1]), "bias": normal(shape[1])}
    compare(lambda kernels, **v: kernels.group_norm(*v.values(), groups),
            lambda x, weight, bias: F.group_norm(x, groups, weight, bias), arrays)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_dropout(p):
    arrays = {"x": normal(3, 41, 7)}
    compare(lambda kernels, x: kernels.dropout(x, p, KEY), lambda x: x * keep(p, x.shape).to(x.dtype), arrays)


@pytest.mark.parametrize("clip", [0.0, 0.1, 1e6])
def test_adamw(clip, monkeypatch):
    monkeypatch.setattr(cuda.elementwise, "AT_ONCE", 3)  # the last parameter alone
    shapes = [(300, 257), (5,), (1,), (40, 3, 3, 3)]
    start, lrs = [normal(*s) for s in shapes], [1e-3, 1e-3, 1e-2, 1e-4]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    optimizer = torch.optim.AdamW([{"params": [t], "lr": lr} for t, lr in zip(theirs, lrs)], weight_decay=0.02)
    ours = {kernels: [[jt.array(a) for a in start], *([jt.zeros(s) for s in shapes] for _ in range(2))]
            for kernels in (fast, cuda, plain)}
    for step in range(1, 6):
        gradients = [normal(*s, scale=0.1) for s in shapes]
        for t, g in zip(theirs, gradients):
            t.grad = torch.tensor(g)
        norm = torch.nn.utils.clip_grad_norm_(theirs, clip) if clip else sum((g**2).sum() for g in gradients) ** 0.5
        optimizer.step()
        for kernels, (parameters, m, v) in ours.items():
            mine = kernels.adamw_step(parameters, [jt.array(g) for g in gradients], m, v, lrs, 0.02, step, clip)
            assert mine == pytest.approx(float(norm), rel=1e-5)
            for p, t in zip(parameters, theirs):
                np.testing.assert_allclose(p.numpy(), t.detach().numpy(), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kernels", [fast, cuda, plain])
def test_adamw_leaves_everything_alone_if_a_gradient_is_not_finite(kernels, bad):
    start = normal(50)
    state = [jt.array(start)], [jt.zeros(50)], [jt.zeros(50)]
    gradient = normal(50)
    gradient[17] = bad
    norm = kernels.adamw_step(state[0], [jt.array(gradient)], state[1], state[2], [0.1], 0.1, 1, 0.1)
    assert not np.isfinite(norm)
    for (var,), value in zip(state, (start, np.zeros(50), np.zeros(50))):
        np.testing.assert_array_equal(var.numpy(), value)


def test_adamw_writes_only_its_own_memory():
    """The fast one writes in place: the array that a Var was made of stays, and what waits gets the old values."""
    array = normal(1000)
    before = array.copy()
    parameter = jt.array(array)
    product = parameter * 2  # not computed yet
    fast.adamw_step([parameter], [jt.ones(1000)], [jt.zeros(1000)], [jt.zeros(1000)], [0.1], 0.0, 1, 0.0)
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(product.numpy(), before * 2)
    assert np.abs(parameter.numpy() - before).min() > 0.09


def test_projections_and_attention_in_one_graph():
    """Jittor may add edges to an operator that only order the execution: they are not inputs of the kernel."""
    arrays = {"w": normal(96, 32, scale=0.2), "b": normal(96), "x": normal(2, 5, 32)}
    mask = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], bool)

    def ours(kernels, w, b, x):
        q, k, v = kernels.projections(x, x, x, w, b)
        return kernels.attention(q, k, v, jt.array(mask), 8, 0.0, 0)

    def truth(w, b, x):
        q, k, v = (F.linear(x, *part).unflatten(2, (8, -1)).transpose(1, 2) for part in zip(w.chunk(3), b.chunk(3)))
        keep = ~torch.tensor(mask)[:, None, None]
        return F.scaled_dot_product_attention(q, k, v, keep).transpose(1, 2).flatten(2)

    compare(ours, truth, arrays)
