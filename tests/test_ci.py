"""The second half of .ci/run: what its parts do with their time and their failures, and what `newest` installs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / ".ci" / "run").read_text()
PART = re.search(r"^part\(\) \{.*?^\}", SCRIPT, re.M | re.S).group()


@pytest.mark.parametrize("call, at, status, said", [
    ("part X 10 20 good", 0, 0, "== X\nfine\ngoes on\n"),
    ("part X 10 20 bad", 0, 1, "== X\n"),
    ("part X 10 20 bad || echo told", 0, 0, "== X\ntold\ngoes on\n"),
    ("part X 10 1 slow", 0, 0, "== X\nThe time was up before all was shown of X.\ngoes on\n"),
    ("part X 100 200 good", 87 * 60 - 99, 0, "No time is left for X.\ngoes on\n")])
def test_a_part(call, at, status, said):
    program = (f"set -euo pipefail\n{PART}\ngood() {{ echo fine; }}\nbad() {{ false; echo fine; }}\n"
               f"slow() {{ sleep 30; }}\nexport -f good bad slow\nSECONDS={at}\n{call}\necho goes on")
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (status, said), done.stderr


def test_each_part_names_a_function_that_is_there():
    named = re.findall(r'^ *part "[^"]+" \d+ \d+ (\w+)', SCRIPT, re.M)
    exported = re.search(r"^export -f (.*)$", SCRIPT, re.M).group(1).split()
    assert len(named) == 4 and set(named) == set(exported) == set(re.findall(r"^(?!part)(\w+)\(\) \{", SCRIPT, re.M))


def test_the_newest_of_every_dependency_without_bounds():
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    done = subprocess.run([sys.executable, ROOT / ".ci" / "newest.py"], capture_output=True, text=True, timeout=60)
    names = set(done.stdout.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", text).group() for text in project["dependencies"]}
    assert needed - names == {"jittor", "onednn-cpu-gomp", "onednn-devel-cpu-gomp"}
    assert {"onnx", "gradio", "pytest", "av"} <= names and not names & {"torch", "detr-jittor", "openvino"}
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)
