"""`train --check` ends with 0 where a run can work, and each planted fault ends it with its reason."""

import numpy as np
import pytest
from numpy_twin import NumpyTwin

from detr_jittor.checkpoint import store
from detr_jittor.engine import build, job, rehearsal
from detr_jittor.engine.rehearsal import rehearse
from detr_jittor.errors import DetrError


@pytest.fixture
def short(config, monkeypatch):
    """The model of the tests needs more steps than DETR for the same share of its loss, most of which is constant."""
    monkeypatch.setattr(rehearsal, "STEPS", 60)
    return config


def test_a_run_that_can_work(short, capsys, tmp_path):
    assert rehearse(short) == 0
    said = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("ok")]
    assert said == ["data", "evaluation", "learning", "checkpoint"]
    assert not (tmp_path / "out").exists()  # nothing is written


def test_a_model_that_does_not_learn(short, monkeypatch):
    class Upwards(NumpyTwin):
        def train_step(self, batch, seed, lr_factor):
            return super().train_step(batch, seed, -lr_factor)

    for module in (build, job):
        monkeypatch.setattr(module, "load_twin", lambda framework: Upwards)
    with pytest.raises(DetrError, match=r"60 steps with one batch brought its loss from .* no learning"):
        rehearse(short)


def test_a_checkpoint_that_is_not_what_was_written(short, monkeypatch):
    own = store.load

    def load(path):
        checkpoint = own(path)
        checkpoint.state.model["class_embed.bias"] = checkpoint.state.model["class_embed.bias"] + np.float32(1e-3)
        return checkpoint

    monkeypatch.setattr(store, "load", load)
    with pytest.raises(DetrError, match="written and read does not give the same detections"):
        rehearse(short)


def test_an_evaluation_that_measures_something_else(short, monkeypatch):
    own = rehearsal.Detections
    monkeypatch.setattr(rehearsal, "Detections", lambda image, scores, labels, boxes: own(
        image, scores, labels, boxes + np.float32([9, 0, 9, 0])))
    with pytest.raises(DetrError, match=r"taken for detections, have an AP of 0\.\d+, not 1"):
        rehearse(short)
