"""The first start on a cache that has Jittor's core and no operator yet, as an installation leaves it: disturbed by a
signal while it compiles, and two of them at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from detr_jittor.bench.cold import environment, without_operators
from detr_jittor.jt.setup.runtime import plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[3]
START = 900  # seconds for a start that compiles, on a busy machine
PROGRAM = """
import numpy as np
from detr_jittor.jt.setup.runtime import jt
x = jt.array(np.arange(12, dtype=np.float32).reshape(3, 4))
print((jt.nn.softmax(x, dim=-1).sum() + jt.matmul(x, x.transpose(1, 0)).sum() + jt.exp(-x).max()).item())
"""


def wanted() -> float:
    x = np.arange(12.0).reshape(3, 4)
    return 3 + (x @ x.T).sum() + 1


@pytest.fixture
def home(tmp_path):
    without_operators(Path(plan.home), tmp_path / "home")
    yield tmp_path / "home"
    shutil.rmtree(tmp_path / "home", ignore_errors=True)  # some hundred megabytes


def start(home: Path) -> subprocess.Popen:
    variables = {**os.environ, **environment(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={name: value for name, value in variables.items() if value is not None})


def finish(process: subprocess.Popen) -> tuple[str, str]:
    try:
        return process.communicate(timeout=START)
    finally:
        process.kill()


def is_right(out: str) -> bool:
    return out.count("\n") == 1 and float(out) == pytest.approx(wanted(), rel=1e-6)


def compilers(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [child for child in process.children(recursive=True) if child.name() in ("cc1plus", "g++", "as", "ld")]
    except psutil.NoSuchProcess:  # one has just ended
        return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_compiles(home, number):
    """It ends at once, what it had begun to compile ends too, and the next start is right."""
    process = start(home)
    try:
        seen, until = [], time.monotonic() + START
        while not seen and process.poll() is None and time.monotonic() < until:
            seen = compilers(psutil.Process(process.pid))
            time.sleep(0.02)
        assert seen, "nothing was compiled: this test would see nothing"
        process.send_signal(number)
        process.wait(60)
    finally:
        process.kill()
    # Jittor itself answers Ctrl-C as soon as its core is loaded ("Caught SIGINT, quick exit"), with status 1
    assert process.returncode in (-number, 128 + number, *([1] if number == signal.SIGINT else []))
    _, left = psutil.wait_procs(seen, timeout=120)
    assert left == []
    again = start(home)
    out, err = finish(again)
    assert again.returncode == 0 and is_right(out), (out, err[-2000:])


def test_two_first_starts_at_once(home):
    """Each waits for what the other one compiles, and neither takes half a file."""
    both = [start(home) for _ in range(2)]
    ends = [finish(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], [err[-2000:] for _, err in ends]
    assert all(is_right(out) for out, _ in ends)
