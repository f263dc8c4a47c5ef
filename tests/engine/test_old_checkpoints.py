"""Checkpoints that were written in November 2026 resume, and go on with the losses that they went on with then.

On the machine and with the packages of a recording, in hexadecimal. On others, whose processors sum in another order,
within ELSEWHERE: all the measured runs, of both twins, with and without kernels, with AVX-512 and with AVX2 alone, are
at most 2.8e-7 apart.
"""

import json

import pytest
from old_run import LOSSES, RUNS, continued, machine

pytestmark = pytest.mark.slow

ELSEWHERE = 1e-6  # relative


@pytest.mark.parametrize("run", RUNS)
def test_an_old_checkpoint_goes_on_with_the_same_losses(tmp_path, run):
    recorded = json.loads(LOSSES.read_text())
    here = [entry for entry in recorded if entry["machine"] == machine()]
    wanted = (here or recorded)[0]["losses"][run]
    found = continued(tmp_path, run)
    assert [set(epoch) for epoch in found] == [set(epoch) for epoch in wanted]
    assert len(found) == 3 and all(len(epoch) >= 16 for epoch in found)
    if here:
        assert found == wanted
    for epoch, as_then in zip(found, wanted):
        for name, number in as_then.items():
            assert float.fromhex(epoch[name]) == pytest.approx(float.fromhex(number), rel=ELSEWHERE), name
