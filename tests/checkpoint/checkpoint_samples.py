"""A small checkpoint with DETR's names, and what equal means."""

import numpy as np

from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.types import Classes, State

SHAPES = {
    "transformer.encoder.layers.0.self_attn.in_proj_weight": (12, 4),
    "transformer.encoder.layers.0.self_attn.in_proj_bias": (12,),
    "class_embed.weight": (4, 4), "class_embed.bias": (4,), "query_embed.weight": (5, 4),
    "input_proj.weight": (4, 8, 1, 1), "input_proj.bias": (4,),
    "backbone.0.body.conv1.weight": (2, 3, 7, 7),
    "backbone.0.body.bn1.weight": (2,), "backbone.0.body.bn1.running_var": (2,),
    "backbone.0.body.layer1.0.conv1.weight": (2, 2, 3, 3),
    "backbone.0.body.layer2.0.conv1.weight": (8, 2, 3, 3),
    "backbone.0.body.layer2.0.bn1.bias": (8,), "backbone.0.body.layer2.0.downsample.1.weight": (8,),
}
TRAINED = [name for name in SHAPES if "backbone" not in name] + ["backbone.0.body.layer2.0.conv1.weight"]


def sample() -> Checkpoint:
    rng = np.random.default_rng(0)
    model = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    model["class_embed.bias"][:3] = np.nan, -0.0, np.inf
    model["backbone.0.body.bn1.num_batches_tracked"] = np.array(2**40, np.int64)
    moments = {name: (rng.standard_normal(SHAPES[name]).astype(np.float32),
                      rng.random(SHAPES[name], np.float32)) for name in TRAINED}
    classes = Classes((1, 2, 3), ("cat", "犬", "tv monitor"), (1, 2, 3), 4)
    config = Config().replace(lr=3e-4, epochs=7, lr_drop=3)
    average = {name: rng.standard_normal(SHAPES[name]).astype(np.float32) for name in TRAINED}
    return Checkpoint(State(model, moments, steps=17, average=average), since_best=3, epoch=2, step=21,
                      config=config, classes=classes, best_ap=0.1 + 0.2, batches=3, epoch_length=6,
                      sums={"loss": [12.34567890123456789, 3]})


def assert_bit_equal(one: dict, other: dict) -> None:
    """Arrays under the same names, in the same order, with the same type, shape and bytes (so NaN equals itself)."""
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].shape == other[name].shape, name
        assert np.asarray(one[name]).tobytes() == np.asarray(other[name]).tobytes(), name


def assert_equal(one: Checkpoint, other: Checkpoint) -> None:
    assert_bit_equal(one.state.model, other.state.model)
    for i in (0, 1):
        assert_bit_equal({n: m[i] for n, m in one.state.optimizer.items()},
                         {n: m[i] for n, m in other.state.optimizer.items()})
    assert_bit_equal(dict(sorted(one.state.average.items())), dict(sorted(other.state.average.items())))
    for field in ("since_best", "epoch", "step", "config", "classes", "best_ap", "batches", "epoch_length", "sums",
                  "note"):
        assert getattr(one, field) == getattr(other, field), field
    assert one.state.steps == other.state.steps
