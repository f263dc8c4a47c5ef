"""A training step of every backbone, with dilation and with masks, in both twins: they agree on these instructions too.

test_avx2.py runs this file once more, limited to AVX2.
"""

import numpy as np
import pytest

from detr_jittor.config.options import Config
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.twin.synthetic import conditioned, random_batch
from detr_jittor.types import State

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip  (jittor first)

pytestmark = pytest.mark.slow

SMALL_TRANSFORMER = {"enc_layers": 1, "dec_layers": 2, "hidden_dim": 64, "nheads": 4, "dim_feedforward": 128,
                     "num_queries": 10, "dropout": 0.0, "backbone_norm": "frozen"}


@pytest.mark.parametrize("options", [
    {"backbone": "resnet18"}, {"backbone": "resnet34"}, {"backbone": "resnet50"}, {"backbone": "resnet101"},
    {"backbone": "resnet18", "dilation": True}, {"backbone": "resnet50", "dilation": True},
    {"backbone": "resnet50", "backbone_norm": "batch"},
    {"backbone": "resnet50", "masks": True, "hidden_dim": 128, "nheads": 8}],
    ids=lambda o: "-".join(map(str, o.values())))
def test_one_step(options):
    config = Config().replace(**{**SMALL_TRANSFORMER, **options})
    batch = random_batch([(97, 128), (96, 90)], 5, 0, 3, masks=config.model.masks)
    logs = []
    for twin in (cls(config, 5) for cls in (JittorTwin, PyTorchTwin)):
        shapes = {name: value.shape for name, value in twin.state().model.items()}
        twin.load(State(conditioned(shapes, 1), {}))
        logs.append(twin.train_step(batch, 0, 1.0))
    ours, theirs = logs
    assert ours.keys() == theirs.keys() and np.isfinite([*ours.values()]).all()
    # Measured: 4e-6 at most. Trained batch norms amplify: their statistics are of few pixels here.
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-5)
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=5e-3)
