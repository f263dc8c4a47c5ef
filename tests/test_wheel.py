"""What `python -m build` makes, installed into an environment of its own, without the clone.

The packages that the program needs are lent by the environment of the tests, so that nothing is downloaded, and
Jittor's cache is the usual one, so that its core is not compiled again.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path

import pytest
from test_docs import anchor, headings

from detr_jittor.cli import commands as program

ROOT = Path(__file__).parents[1]
SOURCES = ("detr_jittor", "docs", "pics-and-logs", "pyproject.toml", "LICENSE", *(p.name for p in ROOT.glob("*.md")))
LENT = [place for place in sys.path if Path(place).name == "site-packages"]


def run(*words: str | Path, cwd: Path) -> str:
    """What a command says. No way leads back to the clone: not the folder, not PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=900)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, made from the source distribution that is made first."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    (made,) = (source / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The environment's folder."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text("\n".join(LENT))  # whose own .pth files are not read
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder


def test_the_wheel_holds_the_whole_program(wheel):
    here = {f.relative_to(ROOT).as_posix() for f in (ROOT / "detr_jittor").rglob("*")
            if f.is_file() and "__pycache__" not in f.parts}
    with zipfile.ZipFile(wheel) as archive:
        assert here == {name for name in archive.namelist() if name.startswith("detr_jittor/")}
    assert {Path(name).suffix for name in here} >= {".py", ".cc", ".cu", ".h"}


def test_extras_that_are_named_are_there(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        there = set(Parser().parsestr(archive.read(name).decode()).get_all("Provides-Extra"))
    sources = [f.read_text(encoding="utf-8") for f in (ROOT / "detr_jittor").rglob("*.py")]
    named = {extra for text in sources for extra in re.findall(r"detr-jittor\[(\w+)\]", text)}
    called = {extra for text in sources for extra in re.findall(r'package\([\w".]+, "(\w+)", ', text)}
    assert {"pytorch", "export", "video"} <= named | called <= there
    assert there >= {"pytorch", "export", "video", "all"}


def test_the_manual_comes_with_it(installed):
    told = run(installed / "bin" / "detr-jittor", "--help", cwd=installed)
    index = Path(told.split("The manual: ")[1].strip())
    assert installed in index.parents and index.is_file()
    pages = sorted(index.parents[1].rglob("*.md"))
    assert len(pages) > 20
    for page in pages:
        for target, place in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            file = (page.parent / target).resolve() if target else page
            assert file.is_file(), (page.name, target)
            assert not place or place in [anchor(words) for _, words in headings(file.read_text(encoding="utf-8"))]


@pytest.mark.slow
def test_the_demo_and_a_prediction_without_the_clone(installed, tmp_path):
    where = run(installed / "bin" / "python", "-c", "import detr_jittor; print(detr_jittor.__file__)", cwd=tmp_path)
    assert installed in Path(where.strip()).parents
    command = installed / "bin" / "detr-jittor"
    run(command, "demo", "--train", "40", "--val", "20", "--epochs", "1", cwd=tmp_path)
    for file in ("training/checkpoint.pkl", "training/eval_summary.txt", "prediction/sheet.jpg"):
        assert (tmp_path / "demo" / file).stat().st_size > 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture = sorted((tmp_path / "demo" / "data" / "val2017").iterdir())[0]
    told = run(command, "predict", "--resume", tmp_path / "demo" / "training" / "checkpoint.pkl", "--output_dir",
               "found", picture, cwd=elsewhere)
    assert "1 pictures drawn in found" in told and (elsewhere / "found" / "predictions.json").is_file()


def test_the_dockerfile_copies_what_there_is():
    """Each source exists, here or in the stage that it comes from, and nothing that the wheel needs is ignored."""
    before, ignored = [], (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        word, *rest = line.split() or [""]
        if word == "COPY" and rest[0].startswith("--from="):
            (made,) = (earlier for earlier in before if earlier.endswith(f" AS {rest[0].removeprefix('--from=')}"))
            assert any(f"--outdir {rest[1]}" in line for line in before[before.index(made):])
        elif word == "COPY":
            assert all((ROOT / source).exists() for source in rest[:-1]) and len(rest) > 1
        before.append(line)
    for name in SOURCES:
        assert not any(fnmatch(name, pattern.removeprefix("**/")) for pattern in ignored), name


def test_the_dockerfile_names_what_there_is():
    """Where there is no Docker: the extras, and the commands in its head."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (extras,) = re.findall(r"whl\)\[([\w,]+)\]", text)
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]")[1]
    assert set(extras.split(",")) <= set(re.findall(r"^(\w+) = \[", declared, re.MULTILINE))
    shown = [line.split(" detr-jittor ", 1)[1].split() for line in text.splitlines() if "docker run" in line]
    assert len(shown) == 2
    for name, *words in shown:
        module = importlib.import_module(f"detr_jittor.cli.{program.commands()[name]}")
        parser = program.Parser(prog=name)
        module.add_arguments(parser)
        assert parser.parse_args(words)
    assert "detr-jittor doctor" in text and 'ENTRYPOINT ["detr-jittor"]' in text
