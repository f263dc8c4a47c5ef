"""A patched Jittor: a folder of links and copies, made once, and nothing that is installed changes."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup import patches

ROOT = Path(__file__).parents[3]
NEWEST = patches.ALWAYS + patches.NUMPY_2
CUDA = patches.ANY_CUDA + patches.CUDA_13 + patches.CUDNN_9
ALL = NEWEST + patches.GCC_15 + CUDA


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """(an installed Jittor of three files, a patch for one of them)"""
    installed = tmp_path / "site-packages"
    for file in ("jittor/__init__.py", "jittor/src/a.h", "jittor_utils/__init__.py"):
        (installed / file).parent.mkdir(parents=True, exist_ok=True)
        (installed / file).write_text("int size;\n" if file.endswith(".h") else "")
    (installed / "jittor" / "__pycache__").mkdir()
    monkeypatch.syspath_prepend(str(installed))
    patch = patches.Patch("jittor/src/a.h", digest(installed / "jittor/src/a.h"), (("int size", "long size"),))
    return installed, patch


@pytest.mark.parametrize("numpy, python, wanted", [
    ("1.26.4", (3, 11), ()), ("1.26.4", (3, 13), patches.ALWAYS),
    ("2.0.0", (3, 10), NEWEST), ("2.5.5", (3, 14), NEWEST),
])
@pytest.mark.parametrize("cuda, cudnn, more", [
    ("", "", ()), ("12.2", "8.9.7", patches.ANY_CUDA), ("12.8", "9.1.0", patches.ANY_CUDA + patches.CUDNN_9),
    ("13.0", "9.1.0", CUDA),
])
def test_who_needs_which(numpy, python, wanted, cuda, cudnn, more):
    found = patches.needed(numpy, "14.2.0", python, cuda, cudnn)
    assert {*found} == {*wanted, *more, *(patches.ALWAYS if more else ())}


@pytest.mark.parametrize("compiler, more", [("", ()), ("9.4.0", ()), ("14", ()), ("15.1.0", patches.GCC_15),
                                            ("16.2.0", patches.GCC_15)])
def test_a_new_compiler(compiler, more):
    assert {*patches.needed("1.26.4", compiler, (3, 11))} == {*more, *(patches.ALWAYS if more else ())}


def test_each_fits_the_jittor_that_is_installed():
    """Its digest, and each text stands in the file exactly once; two patches of one file both go in."""
    installed = patches.installed_folder()
    texts = patches.patched(ALL, installed)
    for patch in ALL:
        text = (installed / patch.file).read_text()
        for old, new in patch.changes:
            assert new not in text and new in texts[patch.file] and text.count(old) == 1
    assert len(texts) < len(ALL)


def test_a_copy_among_links(fake, tmp_path):
    installed, patch = fake
    before = digest(installed / patch.file)
    place = patches.place(tmp_path / "home", (patch,))
    assert place == patches.folder(tmp_path / "home", (patch,))
    copy = place / patch.file
    assert copy.read_text() == "long size;\n" and not copy.is_symlink()
    links = [p for p in place.rglob("*") if p.is_symlink()]
    assert sorted(str(p.relative_to(place)) for p in links) == ["jittor/__init__.py", "jittor_utils/__init__.py"]
    assert all(p.resolve() == (installed / p.relative_to(place)).resolve() for p in links)
    assert digest(installed / patch.file) == before, "what is installed stays as it is"
    assert [p.name for p in place.parent.iterdir()] == [place.name]


def test_its_name_tells_the_patches_and_the_installation(fake, tmp_path, monkeypatch):
    installed, patch = fake
    other = patches.Patch(patch.file, patch.digest, (("int size", "char size"),))
    assert patches.folder(tmp_path, (patch,)) != patches.folder(tmp_path, (other,))
    assert patches.folder(tmp_path, (patch,)).name == patches.folder(tmp_path / "b", (patch,)).name
    here = patches.folder(tmp_path, (patch,))
    shutil.copytree(installed, tmp_path / "another")
    monkeypatch.syspath_prepend(str(tmp_path / "another"))
    assert patches.folder(tmp_path, (patch,)) != here


def test_another_version_is_refused_also_when_the_folder_is_there(fake, tmp_path):
    installed, patch = fake
    patches.place(tmp_path / "home", (patch,))
    (installed / patch.file).write_text("int size; // of a later Jittor\n")
    for home in (tmp_path / "home", tmp_path / "new"):
        with pytest.raises(DetrError, match=r"a\.h is not the file of Jittor 1\.3\.11\.0.*--force-reinstall"):
            patches.place(home, (patch,))
    (installed / patch.file).unlink()
    with pytest.raises(DetrError, match=r"a\.h is not the file of Jittor"):
        patches.place(tmp_path / "home", (patch,))
    assert not (tmp_path / "new").exists()


def test_several_processes_at_once(fake, tmp_path, monkeypatch):
    """Each finds it missing, each makes one, and one of them stays."""
    _, patch = fake
    monkeypatch.setattr(patches, "link", lambda source, target, link=patches.link: (gate.wait(), link(source, target)))
    gate = threading.Barrier(3)
    with ThreadPoolExecutor(3) as pool:
        places = {*pool.map(lambda _: patches.place(tmp_path / "home", (patch,)), range(3))}
    assert len(places) == 1 and [*(tmp_path / "home" / ".cache" / "jittor" / "patched").iterdir()] == [*places]


def test_a_full_disk_leaves_nothing(fake, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        patches.place(tmp_path / "home", (fake[1],))
    assert [*(tmp_path / "home" / ".cache" / "jittor" / "patched").iterdir()] == []


def test_imported_from_there_for_a_while_only(tmp_path):
    before = [*sys.path]
    with patches.in_front(tmp_path):
        assert sys.path == [str(tmp_path), *before]
    with patches.in_front(None):
        assert sys.path == before
    assert sys.path == before


def test_jittor_came_first(tmp_path):
    """An unpatched Jittor under a NumPy that needs patches would corrupt arrays."""
    code = ("import sys, types; other = types.ModuleType('jittor_utils'); other.__file__ = '/x/jittor_utils.py'\n"
            "sys.modules['jittor_utils'] = other; import numpy; numpy.__version__ = '2.1.0'\n"
            "import detr_jittor.jt.setup.runtime")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                         env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)})
    assert run.returncode == 1 and "jittor was imported before detr_jittor" in run.stderr.splitlines()[-1], run.stderr
