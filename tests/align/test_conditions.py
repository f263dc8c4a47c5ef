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


@pytest.fixture
def trial(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "COUNTS", (1, 3))
    trial = selftest.sample_trial(tmp_path / "data", 3, plain=False)
    yield trial
    trial.close()


def test_each_condition_has_a_fault():
    assert {name for name, _ in FAULTS} | {"processes"} == CONDITIONS.keys()


@pytest.mark.parametrize("name, fault", FAULTS, ids=[fault.name for _, fault in FAULTS])
def test_a_sound_twin_passes_and_a_faulty_one_does_not(name, fault, trial, monkeypatch):
    sound, = run_stages(trial, [name])
    if name == "bf16" and "bf16" not in processor.instruction_set():
        assert "the processor lacks AVX512-BF16" in sound.worst and not sound.passed
        return
    assert sound.passed, sound.worst
    assert len(sound.items) > 3

    start = trial.start
    monkeypatch.setattr(trial, "start", functools.partial(start, fault=fault))
    trial.start(JITTOR)
    faulty, = run_stages(trial, [name])
    assert not faulty.passed
    assert "Error" not in faulty.worst  # it ran, and its numbers are wrong
