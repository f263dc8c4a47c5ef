"""tools/gpu_check.sh: rehearsed without a card, and what becomes of a step that fails or takes too long."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from detr_jittor.bench.kernels import CASES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gpu_steps(monkeypatch):
    """tools/gpu_steps.py as a module"""
    monkeypatch.delenv("DEVICE", raising=False)
    spec = importlib.util.spec_from_file_location("gpu_steps", ROOT / "tools" / "gpu_steps.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(gpu_steps):
    began = time.monotonic()
    done = gpu_steps.one("long", ["bash", "-c", "echo begun; sleep 300 & echo $!; wait"], 1.0)
    assert time.monotonic() - began < 60
    assert done["status"] == "ended after 1 s"
    begun, child = done["output"].split()
    assert begun == "begun"
    ended = time.monotonic() + 20  # on a busy machine a process that was killed is there for a while
    while is_running(int(child)) and time.monotonic() < ended:
        time.sleep(0.05)
    assert not is_running(int(child))


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_each_failure_is_told_and_the_next_step_goes_on(gpu_steps, tmp_path, monkeypatch):
    report = tmp_path / "gpu_check.json"
    monkeypatch.setattr(gpu_steps, "steps", lambda folder: {
        "fails": (["bash", "-c", "echo why; exit 3"], 60), "long": (["sleep", "300"], 1),
        "good": (["cat", str(report)], 60)})
    assert gpu_steps.run(tmp_path, 60, []) == 1
    said = json.loads(report.read_text())
    assert [(step["name"], step["status"]) for step in said["steps"]] == [
        ("fails", "failed (3)"), ("long", "ended after 1 s"), ("good", "passed")]
    assert said["stopped_at"] == ["fails", "long"] and said["steps"][0]["output"] == "why\n"
    meanwhile = json.loads(said["steps"][2]["output"])  # what is left if all is ended from outside
    assert meanwhile["steps"][2] == {"name": "good", "status": "running"}
    assert gpu_steps.run(tmp_path, 60, ["good"]) == 0
    assert gpu_steps.run(tmp_path, 1, ["good"]) == 1
    assert json.loads(report.read_text())["steps"] == [{"name": "good", "status": "no time was left"}]
    with pytest.raises(SystemExit, match=r"bad: no such step\. Choose from fails, long, good"):
        gpu_steps.run(tmp_path, 60, ["bad"])


def test_a_twin_that_falls_back_to_the_cpu_is_no_result(gpu_steps):
    gpu_steps.check_device("cuda")
    with pytest.raises(SystemExit, match="runs on cpu, not on cuda"):
        gpu_steps.check_device("cpu")


@pytest.mark.slow
def test_a_rehearsal(tmp_path):
    """The script itself, in an environment of its own that sees the packages of this one."""
    from detr_jittor.jt.setup.runtime import plan

    variables = {"DEVICE": "cpu", "STEPS": "kernels,eager", "PYTHON": sys.executable, "CACHE": str(plan.home)}
    done = subprocess.run([ROOT / "tools" / "gpu_check.sh", tmp_path / "found"], env=os.environ | variables,
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "found" / "gpu_check.json").read_text())
    assert (said["device"], said["rehearsal"], said["stopped_at"]) == ("cpu", True, [])
    assert [step["status"] for step in said["steps"]] == ["passed"] * 2
    assert said["kernels"]["errors"].keys() == {case.name for case in CASES}
    assert all(0 <= error < 1e-4 for error in said["kernels"]["errors"].values())
    found = said["times"]["eager"]
    assert found["ran"].startswith("pytorch on cpu") and found["MB of the machine"] > 100
    assert all(value > 0 for name, value in found.items() if name.startswith(("training step", "inference")))
    assert sum(name.startswith(("training step", "inference")) for name in found) == 3
