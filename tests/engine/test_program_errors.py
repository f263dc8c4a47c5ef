"""An error of the program itself ends in a traceback, and costs nothing that was learned where weights are whole."""

import numpy as np
import pytest
from numpy_twin import NumpyTwin
from test_training import same_run

from detr_jittor.checkpoint import store
from detr_jittor.engine.place import Place
from detr_jittor.engine.reporting import Reporting
from detr_jittor.engine.saving import Saving
from detr_jittor.engine.train import train

AT = 7  # the step in which it fails: in mid-epoch, of five steps each


class Mistake(Exception):
    """Of the program."""


def failing(monkeypatch, where: str) -> None:
    """Let the step AT fail in one of several places; once."""
    def before(self, *arguments):
        if self.steps == AT:
            raise Mistake
        return own(self, *arguments)

    def half(self, *arguments):
        if self.steps == AT:
            monkeypatch.setattr(NumpyTwin, "updates", None)
            self.model["class_embed.bias"] += 1
            raise Mistake
        return own(self, *arguments)

    def after(self, *arguments):
        if self.place.step == AT:
            raise Mistake
        return own(self, *arguments)

    cls, name, broken = {"step": (NumpyTwin, "train_step", before), "half": (NumpyTwin, "train_step", half),
                         "log": (Reporting, "step", after), "bar": (Reporting, "shown", after)}[where]
    own = getattr(cls, name)
    monkeypatch.setattr(cls, name, broken)


@pytest.mark.parametrize("where, saved", [("step", AT), ("log", AT + 1), ("bar", AT)])
def test_what_was_learned_is_saved(config, tmp_path, monkeypatch, where, saved):
    """And the run goes on from it: weights and moments are those of a run without the error, bit for bit.

    In the log of the step that failed after the weights had moved, its losses are missing; so it is left out here.
    """
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config.replace(output_dir=str(whole)))
    with monkeypatch.context() as m:
        failing(m, where)
        with pytest.raises(Mistake):
            train(config.replace(output_dir=str(broken)))
    checkpoint = store.load(broken / "checkpoint.pkl")
    assert (checkpoint.step, checkpoint.state.steps) == (saved, saved)
    train(config.replace(output_dir=str(broken), resume="auto"))
    if where != "log":
        same_run(whole, broken)
    for name, value in store.load(whole / "checkpoint.pkl").state.model.items():
        assert np.array_equal(value, store.load(broken / "checkpoint.pkl").state.model[name])


def test_half_a_step_is_not_saved(config, tmp_path, monkeypatch, capsys):
    config = config.replace(output_dir=str(tmp_path))
    with monkeypatch.context() as m:
        failing(m, "half")
        with pytest.raises(Mistake):
            train(config)
    assert f"step {AT} was half done and is not saved; the newest checkpoint is that of step 5" in (
        capsys.readouterr().err)
    assert store.load(tmp_path / "checkpoint.pkl").step == 5


def test_a_second_error_does_not_hide_the_first(config, tmp_path, monkeypatch, capsys):
    """What failed may fail again while the weights are fetched."""
    failing(monkeypatch, "step")
    own = Place.checkpoint

    def broken(self, *arguments):
        if self.step == AT:
            raise ZeroDivisionError("again")
        return own(self, *arguments)

    monkeypatch.setattr(Place, "checkpoint", broken)
    with pytest.raises(Mistake):
        train(config.replace(output_dir=str(tmp_path)))
    assert "warning: the checkpoint could not be written (ZeroDivisionError: again)" in capsys.readouterr().err
    assert store.load(tmp_path / "checkpoint.pkl").step == 5


def test_nothing_is_written_where_nothing_is_new(config, tmp_path, monkeypatch):
    """An error before the first step of a run that goes on."""
    config = config.replace(output_dir=str(tmp_path), epochs=2)
    train(config)
    saves = []
    monkeypatch.setattr(Saving, "save", lambda self: saves.append(self.place.step))
    monkeypatch.setattr(NumpyTwin, "train_step", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(config.replace(resume="auto", epochs=3))
    assert saves == []
