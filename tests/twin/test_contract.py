"""Both twins, and the NumPy twin of the tests, have all that twin/contract.py promises, with the same arguments."""

import inspect
import sys
from pathlib import Path

import pytest
from small import NUM_CLASSES, SMALL

from detr_jittor.config.options import FRAMEWORKS
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import load_twin, part
from detr_jittor.twin.contract import StepParts, Twin

sys.path.append(str(Path(__file__).parents[1] / "engine"))
from numpy_twin import NumpyTwin


def arguments(function) -> list[str]:
    """Without `self` and the spelling of types."""
    return [f"{p.kind.name} {p.name}{'' if p.default is p.empty else '='}"
            for p in inspect.signature(function).parameters.values() if p.name != "self"]


def missing(twin, protocol) -> list[str]:
    """What a protocol promises and a twin has not, or with other arguments."""
    wrong = [name for name in inspect.get_annotations(protocol) if not hasattr(twin, name)]
    for name, promised in vars(protocol).items():
        function = getattr(promised, "__func__", promised)
        ours = inspect.isfunction(function) and function.__module__ == protocol.__module__
        if not ours or name == "__annotate_func__":
            continue  # what Python gives to every protocol, from 3.14 on with the module of the protocol too
        own = getattr(twin, name, None)
        if own is None or arguments(own) != arguments(function):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_twin_keeps_the_contract(framework):
    twin = load_twin(framework)(SMALL, NUM_CLASSES)
    assert missing(twin, Twin) == [] and missing(twin, StepParts) == []
    assert twin.name == framework


def test_the_numpy_twin_keeps_the_contract():
    assert missing(NumpyTwin(SMALL, NUM_CLASSES), Twin) == []


def test_what_is_missing_is_found(monkeypatch):
    monkeypatch.setattr(NumpyTwin, "train_step", lambda self, batch: None)
    monkeypatch.delattr(NumpyTwin, "checkpoint_suffix")
    assert missing(NumpyTwin(SMALL, NUM_CLASSES), Twin) == ["checkpoint_suffix", "train_step"]


def test_float64_is_refused_where_it_cannot_be():
    with pytest.raises(DetrError, match="jittor twin computes in float32 alone"):
        load_twin("jittor")(SMALL, NUM_CLASSES).to_float64()


@pytest.mark.parametrize("name", ["Jittor", "", "torch"])
def test_an_unknown_framework_is_refused(name):
    for call in (lambda: load_twin(name), lambda: part(name, "capture")):
        with pytest.raises(DetrError, match="Choose from jittor, pytorch"):
            call()
