"""Nothing accumulates from one evaluation round to the next; memory is left to the long run by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_processors")]


@pytest.mark.parametrize("framework", ["jittor", "pytorch"])
def test_files_threads_and_what_jittor_holds_stay_flat(framework):
    command = [sys.executable, str(Path(__file__).parent / "long_run.py"), framework, "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)  # it may compile first
    assert done.returncode == 0 and "not flat: nothing" in done.stdout, done.stdout + done.stderr
