"""Planted faults: each must fit the source as it is, and some are planted for real."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from detr_jittor.__main__ import main
from detr_jittor.align import selftest
from detr_jittor.align.box_faults import BOX_FAULTS
from detr_jittor.align.faults import FAULTS
from detr_jittor.align.measure import Item
from detr_jittor.align.plant import PACKAGE, Fault
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages import STAGES
from detr_jittor.align.trial import JITTOR
from detr_jittor.align.witness import Role, Witness
from detr_jittor.align.worker import WorkerError
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split

IN_A_TEST = {"batch-norm statistics dropped (predecessor)", "eos weight on the wrong class", "clipped after the step"}


@pytest.mark.parametrize("fault", FAULTS + BOX_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_its_source_and_changes_it(fault):
    source = (PACKAGE / fault.file).read_text(encoding="utf-8")
    changed = fault.apply(source)
    assert changed != source
    compile(changed, fault.file, "exec")
    assert fault.stage in STAGES


def test_there_are_faults_for_every_stage_that_computes():
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) >= 20
    assert {fault.stage for fault in FAULTS} == set(STAGES) - {"environment"}
    assert len(BOX_FAULTS) == len({fault.name for fault in BOX_FAULTS}) >= 10
    assert {fault.decoder for fault in BOX_FAULTS} == {"box", "box, presets"}


def test_a_fault_that_no_longer_fits_is_an_error():
    with pytest.raises(ValueError, match="has 0 ×"):
        Fault("stale", "forward", "twin/boxes.py", (("no such text", ""),)).apply("x = 1")


@pytest.mark.parametrize("seed", [10, 17, 18])
def test_the_sample_has_two_batches_of_one_size_and_other_padding(tmp_path, seed):
    """With these seeds it had none, and what a twin keeps by size was not seen."""
    selftest.write_sample(tmp_path, seed)
    config = selftest.small_config(tmp_path, seed, plain=False)
    with closing(Loader(open_split(config.data, "val", False), config.data, 2, False, seed, False)) as loader:
        first, second, *_ = (batch.mask for batch in loader.epoch(0))
    assert first.shape == second.shape and not np.array_equal(first[:, ::8, ::8], second[:, ::8, ::8])


@pytest.mark.slow
def test_several_seeds_and_both_decoders(tmp_path, capsys):
    """The command, with a fault of each model: each is caught with each seed, and the twins without one pass."""
    words = ["eos weight on the wrong", "queries that see the denoising part"]
    assert main(["align", "--self-test", "--seed", "1", "--seeds", "2", "--output_dir", str(tmp_path), "--faults",
                 *words]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "2 of 2 faults caught, 0 false alarms"
    said = "2 of 2 faults caught by the stage that has to, 0 by another, 0 missed; 0 twins without a fault accused"
    assert [line for line in out if line.startswith("seed")] == [f"seed 1: {said}", f"seed 2: {said}"]
    written = json.loads((tmp_path / "self_test.json").read_text())
    assert written["processor"] and [seed["seed"] for seed in written["seeds"]] == [1, 2]
    for seed in written["seeds"]:
        assert seed["accused"] == {} and seed["seconds"] > 0
        assert set(seed["faults"].values()) == {"caught"} and len(seed["faults"]) == 2


@pytest.mark.slow
def test_some_faults_are_caught_and_one_that_does_nothing_or_ends_in_an_error_is_missed(capsys):
    """A sound twin passes. An error would else be a catch, also where nothing was planted."""
    caught = tuple(fault for fault in FAULTS if fault.name in IN_A_TEST)
    harmless = Fault("harmless", "forward", "jt/detr.py", (('"""DETR (section 3', '"""DETR  (section 3'),))
    broken = Fault("raises", "structure", "jt/detr.py", (("nn = jt.nn", "raise RuntimeError('broken on purpose')"),))
    assert selftest.run(faults=(*caught, harmless, broken)) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "3 of 5 faults caught, 0 false alarms"
    place = next(place for place, line in enumerate(out) if line.startswith("seed 9: "))
    assert out[place].endswith("3 of 5 faults caught by the stage that has to, 0 by another, 2 missed; 0 twins without "
                               "a fault accused")
    assert out[place + 1] == "    harmless: missed"
    assert out[place + 2].startswith("    raises: ended in an error") and "broken on purpose" in out[place + 2]


def pretend(monkeypatch, *stages: Stage) -> None:
    """Have the stages of the next trials come out so: of a twin without a fault, of one with it, and so on."""
    left = iter(stages)
    monkeypatch.setattr(selftest, "sample_trial", lambda *_: Pretended())
    monkeypatch.setattr(selftest, "run_stages", lambda *_, **__: [next(left)])


RIGHT, WRONG = Stage("structure", [Item("a", True)]), Stage("structure", [Item("a", False)])
ELSEWHERE = Stage("forward", [Item("logits", False, note="too far")])


def test_what_is_accused_and_what_another_stage_finds(tmp_path, capsys, monkeypatch):
    pretend(monkeypatch, ELSEWHERE, ELSEWHERE)
    file = tmp_path / "self_test.json"
    assert selftest.run(faults=FAULTS[:1], first=7, file=file, command="detr-jittor align --self-test") == 1
    out = capsys.readouterr().out
    assert "0 of 1 faults caught by the stage that has to, 1 by another, 0 missed; 1 twins without a fault" in out
    assert out.endswith("    accused, decoder detr: forward: logits: too far\n0 of 1 faults caught, 1 false alarms\n")
    written = json.loads(file.read_text())
    seed, = written["seeds"]
    assert written["command"] == "detr-jittor align --self-test" and seed["seed"] == 7
    assert seed["accused"] == {"detr": "forward: logits: too far"}
    assert seed["faults"] == {FAULTS[0].name: "caught by forward, not by structure"}


@pytest.mark.parametrize("found, status", [
    ([WRONG, WRONG], 0), ([WRONG, ELSEWHERE], 0), ([ELSEWHERE, ELSEWHERE], 1), ([WRONG, RIGHT], 1)],
    ids=["by its stage", "once by its stage", "never by its stage", "missed with one seed"])
def test_the_verdict_over_several_seeds(monkeypatch, found, status):
    pretend(monkeypatch, RIGHT, found[0], RIGHT, found[1])
    assert selftest.run(faults=FAULTS[:1], seeds=2) == status


class Pretended:
    """A trial that starts no twin."""

    def start(self, *_):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("options, told", [
    ("--seeds 2", "--seeds has no effect without --self-test"), ("--faults eos", "--faults has no effect without"),
    ("--self-test --seeds 0", "--seeds 0"), ("--self-test --seed -1", "--seed -1 cannot be"),
    ("--self-test --faults nosuch", "no fault has such a name"),
    ("--self-test --backbone resnet18", "--backbone has no effect on --self-test")])
def test_senseless_options_of_the_self_test(options, told, capsys):
    assert main(["align", *options.split()]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line


@pytest.mark.slow
def test_a_twin_that_dies_or_raises_is_an_error_and_not_a_hang(tmp_path: Path):
    broken = Fault("raises", "forward", "jt/detr.py", (("nn = jt.nn", "raise RuntimeError('broken on purpose')"),))
    witness = Witness(Role(JITTOR, "jittor", fault=broken), selftest.small_config(tmp_path, 0, False), 8)
    try:
        with pytest.raises(WorkerError, match="broken on purpose"):
            witness.ask("identity")
        witness.process.kill()
        with pytest.raises(WorkerError, match="ended without an answer"):
            witness.ask("load", np.zeros(3))
    finally:
        witness.close()
