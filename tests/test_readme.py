"""Every command of the README is run as it stands, on generated pictures and with a small model."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from detr_jittor.data.demo import write_demo_set

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh-CN.md"]
SMALL = ("--backbone resnet18 --backbone_stages 3 --backbone_weights none --hidden_dim 32 --nheads 4 --num_queries 8 "
         "--dim_feedforward 64 --enc_layers 1 --dec_layers 1 --min_size 64 --max_size 64 --num_workers 0 --max_steps 2")
MASKS = "--backbone_stages 4 --hidden_dim 128 --nheads 8"  # what a mask head needs
INSTALLS = ["make demo", "make test", "pip install torch==2.13.0"]  # run by CI and by whoever starts
# Each has tests of its own.
SLOW = ["detr-jittor align", "detr-jittor compare", "detr-jittor bench", "mpirun", "torchrun"]


def commands(readme: str) -> list[str]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_both_readmes_have_the_same_commands_and_as_many_headings():
    assert commands(READMES[0]) == commands(READMES[1])
    headings = [re.findall(r"^#+ ", (ROOT / readme).read_text(encoding="utf-8"), re.MULTILINE) for readme in READMES]
    assert headings[0] == headings[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    write_demo_set(folder / "coco", train=64, val=8, size=64)
    return folder


def adapted(command: str, place: Path) -> list[str]:
    """The command with the paths of this test, and a small model where it trains."""
    words = shlex.split(command)
    trains = words[:2] == ["python", "main.py"] and "--eval" not in words
    words = [word.replace("/path/to/coco", str(place / "coco")) for word in words]
    words = [str(place / "trained" / "checkpoint.pkl") if word == "output/path/to/checkpoint.pkl" else word
             for word in words]
    words = [str(place / "coco" / "val2017") if word == "pictures/" else word for word in words]
    if words[0] == "python":
        words[:2] = [sys.executable, str(ROOT / "main.py")]
    else:
        words[:1] = [sys.executable, "-m", "detr_jittor"]
    return words + (SMALL.split() if trains else []) + (MASKS.split() if "--masks" in words else [])


def run(words: list[str], place: Path) -> str:
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(place) -> Path:
    train = f"python main.py --coco_path /path/to/coco --output_dir {place / 'trained'} --batch_size 4"
    run(adapted(train, place), place)
    return place


to_run = [c for c in commands(READMES[0]) if c not in INSTALLS and not c.startswith(tuple(SLOW))]


def test_there_are_commands_to_run():
    assert len(to_run) >= 8


@pytest.mark.parametrize("command", to_run)
def test_command(command, trained):
    output = run(adapted(command, trained), trained)
    assert "Traceback" not in output
