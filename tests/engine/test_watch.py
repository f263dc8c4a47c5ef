"""A run watches itself: a sound one has nothing to say, and each planted fault is named."""

from dataclasses import replace

import numpy as np
import pytest
from numpy_twin import NumpyTwin

from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split
from detr_jittor.engine import build, job, watch
from detr_jittor.engine.train import train
from detr_jittor.engine.watch import Watch
from detr_jittor.twin.processes import Processes

FROZEN = "backbone.0.body.conv1.weight"


class Drifting(NumpyTwin):
    def train_step(self, *args):
        self.model[FROZEN] *= 1.0001
        return super().train_step(*args)


class Still(NumpyTwin):
    def train_step(self, *args):
        before = self.model["class_embed.bias"].copy()
        losses = super().train_step(*args)
        self.model["class_embed.bias"] = before
        return losses


class Broken(NumpyTwin):
    def train_step(self, *args):
        losses = super().train_step(*args)
        self.moments["class_embed.weight"][1][0, 0] = np.inf
        return losses


class TooFast(NumpyTwin):
    def train_step(self, batch, seed, lr_factor):
        return super().train_step(batch, seed, 3 * lr_factor)


class Upwards(NumpyTwin):
    def train_step(self, batch, seed, lr_factor):
        return super().train_step(batch, seed, -lr_factor)


FAULTS = {Drifting: f"frozen have changed: {FROZEN}",
          Still: "10 steps did not move 1 of 3 trained weights: class_embed.bias",
          Broken: "moments are not finite: class_embed.weight", TooFast: "but the schedule's learning rate is",
          Upwards: "the loss of the first batch in evaluation mode was"}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(watch, "STEPS", 15)


def test_a_sound_run_says_nothing(config, capfd):
    assert train(config) == 0
    said = capfd.readouterr().err
    assert not any(text in said for text in ("first step", "frozen", "moments", "did not move", "first batch", "AP is"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named(fault, config, monkeypatch, capfd):
    for module in (build, job):
        monkeypatch.setattr(module, "load_twin", lambda framework: fault)
    train(config)
    assert FAULTS[fault] in capfd.readouterr().err


def test_a_run_that_goes_on_has_learned_its_first_batch_already(config, monkeypatch, capfd):
    train(config.replace(epochs=1))
    for module in (build, job):
        monkeypatch.setattr(module, "load_twin", lambda framework: Upwards)
    train(config.replace(epochs=6, resume="auto"))
    assert "the loss of the first batch" not in capfd.readouterr().err


def test_processes_with_different_weights(config, capfd):
    class Two(Processes):
        size = 2

        def gather(self, value):
            return [value, value + 1]

    watching = Watch(config, NumpyTwin(config, 3), Two())
    watching.look(7, watching.twin.state())
    assert "step 7: the processes have different weights" in capfd.readouterr().err


def test_a_box_outside_of_its_picture(config, capfd):
    watching = Watch(config, NumpyTwin(config, 3))
    loader = Loader(open_split(config.data, "train"), config.data, 2, True, 0)
    batch = next(iter(loader.epoch(0)))
    watching.check_targets(batch)
    assert capfd.readouterr().err == ""
    target = batch.targets[1]
    batch.targets[1] = replace(target, boxes=target.boxes + np.float32([0.9, 0, 0, 0]))
    watching.check_targets(batch)
    assert f"image {target.image_id}: after augmentation a box lies outside" in capfd.readouterr().err
    loader.close()


def test_no_ap_with_a_falling_loss(config, capfd):
    watching = Watch(config, NumpyTwin(config, 3))
    for loss, ap in ((9.0, 0.0), (8.0, None), (5.0, 0.0)):
        watching.after_epoch(0, loss, ap)
    assert "AP is 0 in two evaluations although the training loss fell from 9.000 to 5.000" in capfd.readouterr().err
    watching.after_epoch(0, 4.0, 0.1)
    assert "AP is 0" not in capfd.readouterr().err
