"""oneDNN is copied from its wheels to where Jittor looks, whole, once, and by one process."""

import fcntl
import filecmp
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup import onednn

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return home, onednn.place(home)


def test_everything_of_the_wheels_arrives(placed):
    home, (include, library) = placed
    headers, source = onednn.wheel_files()
    assert len(headers) == 29 and all(filecmp.cmp(h, include / name, shallow=False) for h, name in headers)
    for name in ("libdnnl.so.2", "libdnnl.so", "libmkldnn.so"):
        assert filecmp.cmp(source, library / name, shallow=False)
    assert onednn.version(onednn.folder(home)) == onednn.VERSION == (2, 6)


def test_the_copy_does_not_depend_on_the_virtual_environment(placed):
    home = placed[0]
    links = [p for p in onednn.folder(home).rglob("*") if p.is_symlink()]
    assert links and all(p.resolve().is_relative_to(home.resolve()) for p in links)


def test_the_copy_is_found_again(placed, monkeypatch):
    monkeypatch.setattr(metadata, "files", lambda name: pytest.fail("the wheels were read again"))
    assert onednn.place(placed[0]) == placed[1]


@pytest.mark.parametrize("damage", ["dangling links", "only headers", "a file"])
def test_a_broken_folder_is_replaced(tmp_path, damage):
    target = onednn.folder(tmp_path)
    target.parent.mkdir(parents=True)
    if damage == "dangling links":  # what an older set-up left behind when its virtual environment was removed
        (target / "lib").mkdir(parents=True)
        (target / "include").symlink_to(tmp_path / "gone")
        (target / "lib" / "libmkldnn.so").symlink_to(tmp_path / "gone.so")
    elif damage == "only headers":
        (target / "include").mkdir(parents=True)
    else:
        target.touch()
    assert onednn.others(tmp_path) == []
    onednn.place(tmp_path)
    assert onednn.is_complete(target)
    assert sorted(p.name for p in target.parent.iterdir()) == [onednn.FOLDER, "lock"]


def test_several_processes_at_once(tmp_path):
    code = (f"import sys; from pathlib import Path; from detr_jittor.jt.setup import onednn; sys.stdin.read(1); "
            f"onednn.place(Path({str(tmp_path)!r})); print(onednn.is_complete(onednn.folder(Path({str(tmp_path)!r}))))")
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for run in runs:  # all are ready: off they go
        run.stdin.write("x")
        run.stdin.close()
    for run in runs:
        assert (run.stdout.read().strip(), run.stderr.read()) == ("True", "")
        assert run.wait() == 0
    assert sorted(p.name for p in onednn.folder(tmp_path).parent.iterdir()) == [onednn.FOLDER, "lock"]


def test_a_process_waits_for_the_one_that_copies(placed, tmp_path):
    target = onednn.folder(tmp_path)
    target.parent.mkdir(parents=True)
    code = f"from pathlib import Path; from detr_jittor.jt.setup import onednn; onednn.place(Path({str(tmp_path)!r}))"
    with open(target.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
        shutil.copytree(onednn.folder(placed[0]), target, symlinks=True)
        mine = target.stat().st_ino
    assert waiting.wait() == 0
    assert target.stat().st_ino == mine, "what was there when its turn came is not copied again"


def test_another_version_under_jittors_own_name_is_left_alone(tmp_path):
    target = onednn.folder(tmp_path)
    for name, text in {"lib/libmkldnn.so": "", "include/oneapi/dnnl/dnnl_version.h":
                       "#define DNNL_VERSION_MAJOR 2\n#define DNNL_VERSION_MINOR 2\n"}.items():
        (target / name).parent.mkdir(parents=True)
        (target / name).write_text(text)
    assert onednn.version(target) == (2, 2)
    assert onednn.others(tmp_path) == [target]


def test_a_missing_wheel(tmp_path, monkeypatch):
    def files(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", files)
    with pytest.raises(DetrError, match=r"Run: pip install onednn-cpu-gomp==2022\.2\.1"):
        onednn.place(tmp_path)


def test_an_incomplete_wheel(tmp_path, monkeypatch):
    real = metadata.files
    monkeypatch.setattr(metadata, "files", lambda name: [f for f in real(name) if f.name != onednn.LIBRARY])
    with pytest.raises(DetrError, match="--force-reinstall"):
        onednn.place(tmp_path)
