"""Every command and every line of Python in README and docs: parsed, and run as it stands, on generated pictures and
with a small model."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from panoptic_set import write_panoptic_set
from test_docs import ENGLISH, read

from detr_jittor.checkpoint.official import OFFICIAL
from detr_jittor.cli import commands as program
from detr_jittor.cli.options import config_of
from detr_jittor.config.check import check
from detr_jittor.config.options import Config
from detr_jittor.data.convert import convert
from detr_jittor.data.demo import write_demo_set

ROOT = Path(__file__).parents[1]
PAGES = [*ENGLISH, ROOT / "CONTRIBUTING.md"]
SMALL = ("--backbone resnet18 --backbone_stages 3 --backbone_weights none --hidden_dim 32 --nheads 4 --num_queries 8 "
         "--dim_feedforward 64 --enc_layers 1 --dec_layers 1 --min_size 64 --max_size 64 --num_workers 0 --max_steps 2")
DEMO = "--train 40 --val 20 --epochs 1"
MASKS = "--backbone_stages 4 --hidden_dim 128 --nheads 8"  # what a mask head needs
# Run by CI, by whoever starts, and by who has a graphics card.
INSTALLS = ("make ", "pip ", "sudo apt ", "source ", "python -m build", "docker build", "tools/", "DEVICE=cpu tools/",
            "DETR_ISA=avx2 python tools/")
# Each has tests of its own, or takes long.
SLOW = ("detr-jittor align", "detr-jittor compare", "detr-jittor bench", "DETR_ISA=avx2 detr-jittor bench", "mpirun",
        "torchrun", "detr-jittor app", "detr-jittor watch")


def code(language: str) -> list[tuple[str, str]]:
    """[(page, block)]"""
    return [(page.name, block) for page in PAGES
            for block in re.findall(rf"^```{language}\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE)]


def commands() -> list[str]:
    """Each once, in the order of the pages."""
    lines = [line.split("  #")[0].strip() for _, block in code("bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


OURS = [c for c in commands() if not c.startswith(INSTALLS)]
TO_RUN = [c for c in OURS if not c.removeprefix(".venv/bin/").startswith(SLOW)]


def words_of(command: str) -> list[str]:
    """["train", "--coco_path", …]: what `detr-jittor` is given, without what starts several processes."""
    words = shlex.split(command)
    if words[0].startswith("DETR_ISA="):
        words = words[1:]
    if words[0] == "mpirun":
        words = words[3:]  # -np N
    if words[0] == "torchrun":
        words = ["python", *words[3:]]  # --nproc_per_node N
    if words[0] == "python":
        assert words[1] == "main.py"
        return ["train", *words[2:]]
    assert words[0] in ("detr-jittor", ".venv/bin/detr-jittor"), command
    return words[1:]


def test_there_are_commands():
    assert len(TO_RUN) >= 20 and len(OURS) > len(TO_RUN)
    assert {words_of(command)[0] for command in OURS} >= set(program.commands()) - {"verify-official"}


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith(INSTALLS)])
def test_what_installs_is_there(command):
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z]\w*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
        assert {word.split("=")[0] for word in words[1:] if "=" in word} <= {"PYTHON", "VENV"}
    elif "tools/" in command:
        right = os.R_OK if "python" in words else os.X_OK
        assert os.access(ROOT / next(word for word in words if word.startswith("tools/")), right)
    elif words[0] == "source":
        assert "VENV ?= .venv\n" in (ROOT / "Makefile").read_text() and words[1] == ".venv/bin/activate"
    elif words[:2] == ["pip", "install"]:
        there = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n\n")[0]
        extras = [extra for word in words[2:] for extra in re.findall(r"\[(\w+)\]", word)]
        assert set(extras) <= set(re.findall(r"^(\w+) = \[", there, re.MULTILINE))
        assert all((ROOT / words[place + 1]).is_file() for place, word in enumerate(words) if word == "-r")


@pytest.mark.parametrize("command", OURS)
def test_parsed(command):
    """The options are there, and their values make sense together."""
    name, *words = words_of(command)
    module = importlib.import_module(f"detr_jittor.cli.{program.commands()[name]}")
    parser = program.Parser(prog=name)
    module.add_arguments(parser)
    args = parser.parse_args(words)
    if name in ("train", "evaluate", "align", "compare"):  # which take the settings of config/options.py
        check(config_of(args))


def test_names_of_published_models_are_true():
    named = {name for page in PAGES for name in re.findall(r"`(detr-r\d+[\w-]*)`|--weights (detr-r[\w-]+)", read(page))
             for name in name if name}
    assert named == set(OFFICIAL)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    write_demo_set(folder / "coco", train=64, val=8, size=64)
    write_panoptic_set(folder / "panoptic", train=8, val=8, size=64)
    convert(Config().replace(coco_path=str(folder / "coco")).data, folder / "my_pictures", "yolo")
    for name, split in (("a", "train"), ("b", "val")):
        (folder / f"{name}.json").symlink_to(folder / "coco" / "annotations" / f"instances_{split}2017.json")
        (folder / f"pictures_{name}").symlink_to(folder / "coco" / f"{split}2017")
    picture = sorted((folder / "coco" / "val2017").iterdir())[0]
    (folder / "photo.jpg").write_bytes(picture.read_bytes())
    write_film(folder / "film.mp4")
    return folder


def write_film(path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 64
        for seed in range(3):
            pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def adapted(command: str, place: Path) -> list[str]:
    """The command with the paths of this test, and a small model where it trains."""
    panoptic = "coco_panoptic" in command
    words = words_of(command)
    trains, masks = words[0] == "train" and "--eval" not in words, "--masks" in words and words[0] != "dataset"
    weights = place / ("detector" if "--frozen_weights" in words else "trained") / "checkpoint.pkl"
    places = {"/path/to/coco": place / ("panoptic" if panoptic else "coco"), "/path/to/panoptic": place / "panoptic",
              "/path/to/subset": place / "coco",
              "output/path/to/checkpoint.pkl": weights,
              "output/path/to/mistakes/mistakes.json": weights.with_name("mistakes") / "mistakes.json",
              "pictures/": place / "coco" / "val2017"}
    words = [str(places.get(word, word)) for word in words]
    words += SMALL.split() if trains else DEMO.split() if words[0] == "demo" else []
    return [sys.executable, "-m", "detr_jittor", *words, *(MASKS.split() if masks else [])]


def run(words: list[str], place: Path) -> str:
    """In `place`, with the small model in place of the published one."""
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline",
                               "SWANLAB_MODE": "offline",
                               "DETR_WEIGHTS": str(place / "trained" / "checkpoint.pkl")})
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(place) -> Path:
    """The folder, with the checkpoint that the commands name, and a detector on which a mask head can be put."""
    train = "python main.py --coco_path /path/to/coco --batch_size 4 --output_dir"
    run(adapted(f"{train} {place / 'trained'}", place), place)
    run([*adapted(f"{train} {place / 'detector'}", place), *MASKS.split()], place)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("command", TO_RUN)
def test_command(command, trained):
    assert "Traceback" not in run(adapted(command, trained), trained)


# The published model's settings, for the small model's file.
PUBLISHED = """
from detr_jittor.checkpoint import official, store
config = store.load({file!r}).config
names = [*config.model.__dataclass_fields__, "min_size", "max_size"]
options = {{name: config.flat()[name] for name in names if name not in ("masks", "num_classes", "backbone_norm")}}
official.OFFICIAL["detr-r50"] = official.Official("", options, {{"box AP": 42.0}})
"""


@pytest.mark.slow
@pytest.mark.parametrize("page, block", code("python"))
def test_python(page, block, trained):
    """The pages' own lines, with no threshold, so that there is something to print, and two steps of training."""
    prelude = PUBLISHED.format(file=str(trained / "trained" / "checkpoint.pkl"))
    block = re.sub(r"threshold=[\d.]+", "threshold=0.0", block).replace("epochs=50", "epochs=1, max_steps=2")
    for named, folder in (("my_pictures/", "coco"), ("pictures/", "coco/val2017")):
        block = block.replace(f'"{named}"', repr(str(trained / folder)))
    told = run([sys.executable, "-c", prelude + block], trained)
    assert "Traceback" not in told and re.search(r"\w+'?,? \(?[\d.]+|\w+ [\d.]+ \[", told), told
