"""Planted faults: each must fit the source as it is, and some are planted for real."""

from pathlib import Path

import numpy as np
import pytest

from detr_jittor.align import selftest
from detr_jittor.align.box_faults import BOX_FAULTS
from detr_jittor.align.faults import FAULTS
from detr_jittor.align.plant import PACKAGE, Fault
from detr_jittor.align.stages import STAGES
from detr_jittor.align.trial import JITTOR
from detr_jittor.align.witness import Role, Witness
from detr_jittor.align.worker import WorkerError

pytestmark = pytest.mark.slow

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
    assert all(fault.decoder == "box" for fault in BOX_FAULTS)


def test_a_fault_that_no_longer_fits_is_an_error():
    with pytest.raises(ValueError, match="has 0 ×"):
        Fault("stale", "forward", "twin/boxes.py", (("no such text", ""),)).apply("x = 1")


def test_a_fault_of_the_box_decoder_is_caught_and_its_sound_twin_passes(capsys):
    faults = tuple(fault for fault in BOX_FAULTS if fault.name == "queries that see the denoising part")
    assert selftest.run(faults=faults, seeds=1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 faults caught, 0 false alarms"


def test_some_faults_are_caught_and_one_that_does_nothing_or_ends_in_an_error_is_missed(capsys):
    """A sound twin passes. An error would else be a catch, also where nothing was planted."""
    caught = tuple(fault for fault in FAULTS if fault.name in IN_A_TEST)
    harmless = Fault("harmless", "forward", "jt/detr.py", (('"""DETR (section 3', '"""DETR  (section 3'),))
    broken = Fault("raises", "structure", "jt/detr.py", (("nn = jt.nn", "raise RuntimeError('broken on purpose')"),))
    assert selftest.run(faults=(*caught, harmless, broken), seeds=1) == 1
    out = capsys.readouterr().out
    assert out.count("MISSED") == out.count("ENDED IN AN ERROR") == 1
    assert out.splitlines()[-1] == "3 of 5 faults caught, 0 false alarms"


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
