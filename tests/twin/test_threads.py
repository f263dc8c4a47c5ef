"""As many threads as there are processors for this process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detr_jittor.twin import threads

ROOT = Path(__file__).parents[2]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 64 processors and control groups in a folder of the test's."""
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "read_groups", lambda: "0::/docker/abc\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    for name in (*threads.LOCAL_SIZES, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("files, found", [
    ({}, 64), ({"docker/abc/cpu.max": "200000 100000"}, 2), ({"docker/abc/cpu.max": "max 100000"}, 64),
    ({"docker/cpu.max": "150000 100000", "docker/abc/cpu.max": "max 100000"}, 2),  # the parent's; 1.5 are rounded up
    ({"cpu.max": "400000 100000"}, 4),  # as a container sees its own group
    ({"cpu.max": "10000 100000"}, 1), ({"cpu.max": "nonsense"}, 64)])
def test_a_quota(machine, files, found):
    for name, text in files.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(text)
    assert threads.processors() == found


@pytest.mark.parametrize("time, found", [("300000", 3), ("-1", 64)])
def test_a_quota_of_version_1(machine, monkeypatch, time, found):
    monkeypatch.setattr(threads, "read_groups", lambda: "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    (machine / "cpu").mkdir()
    (machine / "cpu" / "cpu.cfs_quota_us").write_text(time)
    (machine / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert threads.processors() == found


def test_processes_share_the_machine(machine, monkeypatch):
    assert threads.count() == 64
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    assert threads.count() == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 6})  # each is bound to processors of its own
    assert threads.count() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.count() == 3


def test_openmp_is_told_where_it_would_not_know(machine, monkeypatch):
    threads.prepare()
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    threads.prepare()
    assert os.environ["OMP_NUM_THREADS"] == "16"


CODE = """
import ctypes, sys
from small import NUM_CLASSES, SMALL
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin import waiting

load_twin(sys.argv[1])(SMALL.replace(threads=3), NUM_CLASSES)
print([ctypes.CDLL(library).omp_get_max_threads() for library in waiting.libraries()])
if sys.argv[1] == "pytorch":
    import torch
    print([torch.get_num_threads()])
"""


@pytest.mark.parametrize("framework", ["jittor", "pytorch"])
def test_the_option(framework):
    done = subprocess.run([sys.executable, "-c", CODE, framework], cwd=ROOT, text=True, capture_output=True,
                          timeout=300, env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert lines and set(lines) == {"[3]"}, done.stdout
