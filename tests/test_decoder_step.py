"""The figure of docs/small-sets.md for a step of the box decoder can be taken again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "decoder_step.py"


@pytest.mark.slow
def test_it_tells_the_ratio():
    run = subprocess.run([sys.executable, TOOL, "demo", "3"], capture_output=True, text=True, cwd=ROOT, check=True)
    line = run.stdout[run.stdout.rindex("demo: "):]  # behind what Jittor tells of its compiling, if it did
    detr, box, ratio, least, most = map(float, re.findall(r"\d+\.\d+", line))
    assert 0 < least <= ratio <= most and detr > 0 and box > 0


def test_without_a_preset_it_tells_how_it_is_used():
    run = subprocess.run([sys.executable, TOOL, "large"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1 and "{demo,minimal}" in run.stderr
