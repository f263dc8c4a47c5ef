"""The kernels of the box decoder against plain Jittor and float64."""

import numpy as np
import pytest
import torch
from against import compare

from detr_jittor.jt.kernels import cuda, fast
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.reference import sampling as oracle
from detr_jittor.twin import seeding

from detr_jittor.pt import sampling as pt  # isort: skip  (jittor first)

pytestmark = pytest.mark.slow

KEY = 0x9ABCDEF1


def normal(*shape, scale=1.0, seed=5):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def arguments(b, k, n, d, maps, seed=3):
    """Boxes of all sizes, some beyond the picture; a picture that is a part of the map."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(0, 1, (b, k, 2)), rng.uniform(0.01, 0.9, (b, k, 2))], 2).astype(np.float32)
    extent = np.array([[1.0, 1.0], [0.75, 0.6]], np.float32)[:b]
    arrays = {"content": normal(b, k, n, d, scale=d**-0.5), "place": normal(b, k, n, d, scale=d**-0.5, seed=6),
              "rows": normal(b, k, 4, d // 2, seed=7), "columns": normal(b, k, 4, d // 2, seed=8),
              "boxes": boxes, "extent": extent}
    return arrays | {f"map {i}": normal(b, h, w, d, seed=10 + i) for i, (h, w) in enumerate(maps)}


class Keep:
    """Dropout of the PyTorch twin with a key of its own, at some rate."""

    def __init__(self, p):
        self.p = p

    def __call__(self, x):
        kept = seeding.keep_mask(KEY, self.p, tuple(x.shape)) if self.p else np.ones(tuple(x.shape))
        return x * torch.tensor(kept / (1 - self.p)).to(x.dtype)


@pytest.mark.parametrize("b, k, n, d, maps, p", [
    (2, 7, 4, 32, [(5, 9), (3, 5)], 0.0), (2, 30, 8, 128, [(12, 12), (6, 6)], 0.0), (2, 6, 2, 24, [(7, 4)], 0.3),
    (1, 1, 1, 8, [(1, 1), (2, 1), (3, 3)], 0.0), (1, 4, 13, 40, [(5, 6)], 0.3)])
def test_sampled_attention(b, k, n, d, maps, p, monkeypatch):
    def function(kernels, content, place, rows, columns, boxes, extent, **of_maps):
        return kernels.sampled_attention(content, place, rows, columns, boxes, extent, list(of_maps.values()), 4, 2, p,
                                         KEY)

    def truth(content, place, rows, columns, boxes, extent, **of_maps):
        waves = iter((rows, columns))
        monkeypatch.setattr(pt, "sine", lambda *_: next(waves))
        return pt.sampled_attention(content, place, list(of_maps.values()), boxes, extent, Keep(p))

    compare(function, truth, arguments(b, k, n, d, maps), fixed=("rows", "columns", "boxes", "extent"))


def test_the_pytorch_twin_samples_as_the_oracle():
    """In float64, to the last digits: the oracle goes from sample to sample, without a matrix."""
    arrays = [torch.tensor(a, dtype=torch.float64) for a in arguments(2, 5, 2, 8, [(6, 9), (3, 5)]).values()]
    content, place, _, _, boxes, extent, *maps = arrays
    found = pt.sampled_attention(content, place, maps, boxes, extent, lambda x: x).numpy()
    wanted, weights = oracle.sampled_attention(content.numpy(), place.numpy(), [m.numpy() for m in maps],
                                               boxes.numpy(), extent.numpy())
    assert np.abs(found - wanted).max() < 1e-12
    assert np.allclose(weights.sum((3, 4)), 1)


@pytest.mark.parametrize("kernels", [fast, cuda])
def test_boxes_that_are_not_finite_do_not_end_in_memory_of_others(kernels):
    arrays = arguments(1, 3, 2, 8, [(4, 4)])
    arrays["boxes"][0, 1] = np.nan
    inputs = [jt.array(a) for a in arrays.values()]
    y = kernels.sampled_attention(*inputs[:6], inputs[6:], 4, 2, 0.0, 0).numpy()
    assert np.isfinite(y).all()  # nothing is sampled there; the boxes themselves tell of it


@pytest.mark.parametrize("shape, features", [((7,), 8), ((2, 30, 4), 64)])
def test_sine(shape, features):
    positions = np.random.default_rng(2).random(shape).astype(np.float32)
    compare(lambda kernels, x: kernels.sine(x, features), lambda x: pt.sine(x, features), {"x": positions})


@pytest.mark.parametrize("b, k, n, d", [(2, 5, 4, 32), (3, 40, 8, 128), (1, 1, 1, 8)])
def test_products_by_head(b, k, n, d):
    arrays = {"x": normal(b, k, d), "weight": normal(d, d, scale=d**-0.5)}
    compare(lambda kernels, x, weight: kernels.to_heads(x, weight, n), lambda x, weight: pt.to_heads(x, weight, n),
            arrays)
    arrays["x"] = normal(b, k, n, d)
    compare(lambda kernels, x, weight: kernels.from_heads(x, weight, n),
            lambda x, weight: pt.from_heads(x, weight, n), arrays)
