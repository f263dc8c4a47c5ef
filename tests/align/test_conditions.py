"""Conditions beside the ten stages: a sound twin passes, and a planted fault fails. Several processes are in
test_condition_processes.py."""

import functools

import pytest

from detr_jittor.align import selftest
from detr_jittor.align.conditions import CONDITIONS, threads
from detr_jittor.align.plant import Fault
from detr_jittor.align.run import run_stages
from detr_jittor.align.trial import JITTOR
from detr_jittor.twin import processor

pytestmark = pytest.mark.slow

HEADS = "return self.class_embed(hs), self.bbox_embed(hs).sigmoid()"
NEIGHBOURS = Fault("a picture that sees its neighbours", "forward", "jt/detr.py",
                   ((HEADS, HEADS.replace("(hs)", "(hs + 1e-4 * hs.mean(1, keepdims=True))")),))
CHANCE = Fault("a last digit by chance", "forward", "jt/detr.py",
               ((HEADS, f"hs = hs + 1e-7 * jt.randn(hs.shape)\n        {HEADS}"),))
COARSE = Fault("five bits of bfloat16's eight", "forward", "jt/detr.py",
               ((HEADS, f"hs = hs * (1 + jt.randn(hs.shape) / 32)\n        {HEADS}"),))
FLOAT32 = Fault("float32 in place of bfloat16 (Lightning Thunder 725)", "forward", "jt/twin.py",
                (('config.run.precision == "bf16"', "False"),))
FAULTS = [("alone", NEIGHBOURS), ("threads", CHANCE), ("bf16", COARSE), ("bf16", FLOAT32)]


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """One for all: PyTorch and float64 answer once, and each fault's twin takes the place of the one before."""
    trial = selftest.sample_trial(tmp_path_factory.mktemp("conditions") / "data", 3, plain=False)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(threads, "COUNTS", (1, 3))
        yield trial
    trial.close()


@pytest.fixture(scope="module")
def sound(trial):
    """{condition: its stage, of twins without a fault}"""
    return {stage.name: stage for stage in run_stages(trial, list(dict.fromkeys(name for name, _ in FAULTS)))}


def test_each_condition_has_a_fault():
    assert {name for name, _ in FAULTS} | {"processes"} == CONDITIONS.keys()


@pytest.mark.parametrize("name, fault", FAULTS, ids=[fault.name for _, fault in FAULTS])
def test_a_sound_twin_passes_and_a_faulty_one_does_not(name, fault, trial, sound, monkeypatch):
    if name == "bf16" and "bf16" not in processor.instruction_set():
        assert "the processor lacks AVX512-BF16" in sound[name].worst and not sound[name].passed
        return
    assert sound[name].passed, sound[name].worst
    assert len(sound[name].items) > 3

    start = trial.start
    monkeypatch.setattr(trial, "start", functools.partial(start, fault=fault))
    trial.start(JITTOR)
    faulty, = run_stages(trial, [name])
    assert not faulty.passed
    assert "Error" not in faulty.worst  # it ran, and its numbers are wrong
