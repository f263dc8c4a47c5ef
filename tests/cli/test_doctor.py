"""`detr-jittor doctor`: on this machine, and on machines with one fault each."""

import collections
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from detr_jittor.__main__ import main
from detr_jittor.cli import doctor_checks as doctor
from detr_jittor.errors import DetrError
from detr_jittor.jt import kernels
from detr_jittor.jt.setup import toolkit, trial
from detr_jittor.jt.setup.cuda import Cuda, Toolkit
from detr_jittor.jt.setup.gpu import Gpu

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in (*doctor.INFLUENCE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def findings(check) -> list[doctor.Finding]:
    return list(check("subject"))


def only(check) -> doctor.Finding:
    (finding,) = findings(check)
    return finding


def run_doctor(**variables: str) -> tuple[int, dict[str, dict]]:
    run = subprocess.run([sys.executable, "-m", "detr_jittor", "doctor", "--json"], cwd=ROOT, text=True,
                         env=os.environ | variables, capture_output=True)
    return run.returncode, {f["subject"]: f for f in json.loads(run.stdout)}


def test_this_machine_is_healthy():
    status, found = run_doctor()
    assert set(doctor.CHECKS) <= set(found)
    assert [f for f in found.values() if f["status"] == "failed"] == []
    assert status == 0 and "computes rightly" in found["Jittor"]["found"]
    assert "kernels: oneDNN" in found["Jittor"]["found"]


@pytest.mark.parametrize("stub, found, fix", [
    ("raise ImportError(\"version `GLIBCXX_3.4.32' not found\")", "GLIBCXX_3.4.32", "conda install"),
    ("import os; os.abort()", "its process died", "remove Jittor's cache"),
    ("raise OSError('No space left on device')", "No space left", "Free some disk"),
    ("raise RuntimeError('Run cmd failed: \"/usr/bin/g++\" a.cc')", "Run cmd failed", "export cc_path=g++-14"),
])
def test_a_jittor_that_does_not_start(tmp_path, stub, found, fix):
    (tmp_path / "jittor_utils.py").write_text(stub)
    (tmp_path / "sitecustomize.py").write_text("from detr_jittor.jt.setup import patches\n"
                                               "patches.needed = lambda *versions, **cuda: ()  # a stub needs none\n")
    status, report = run_doctor(PYTHONPATH=str(tmp_path))
    assert status == 1 and set(doctor.CHECKS) <= set(report)
    assert report["Jittor"]["status"] == "failed"
    assert found in report["Jittor"]["found"] and fix in report["Jittor"]["fix"]


@pytest.mark.parametrize("answer, status", [
    ('{"version": "1", "device": "CPU", "cache": "c", "kernels": "k", "error": 2e-7, "right": true}', "ok"),
    ('{"version": "1", "device": "CPU", "cache": "c", "kernels": "k", "error": 0.5, "right": false}', "failed"),
])
def test_a_jittor_that_computes_wrongly(monkeypatch, answer, status):
    monkeypatch.setattr(doctor.subprocess, "run",
                        lambda *args, **kwargs: subprocess.CompletedProcess(args, 0, stdout="chatter\n" + answer))
    assert only(doctor.jittor).status == status


def test_kernels_that_do_not_compile(monkeypatch, capsys):
    def fail():
        raise RuntimeError('Run cmd failed: "/usr/bin/g++" detr_pooling.cc')

    monkeypatch.setattr(kernels, "Kernels", fail)
    assert trial.main() == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "fails at our kernels" in result["problem"] and "--plain" in result["fix"]


def test_the_report_as_text(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {
        "one": lambda subject: iter([doctor.Finding(subject, "ok", "fine")]),
        "two": lambda subject: iter([doctor.Finding(subject, "warning", "odd", "Do this.")]),
    })
    assert main(["doctor"]) == 0
    assert [line.split(None, 2) for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "one", "fine"], ["warning", "two", "odd"], ["fix:", "Do", "this."]]


@pytest.mark.parametrize("error", [DetrError("no g++.", "Install it."), OSError("gone"), ImportError("no numpy")])
def test_a_check_that_fails_does_not_stop_the_others(monkeypatch, capsys, error):
    def broken(subject):
        raise error

    monkeypatch.setattr(doctor, "CHECKS", {"broken": broken,
                                           "last": lambda subject: iter([doctor.Finding(subject, "ok", "fine")])})
    assert main(["doctor", "--json"]) == 1
    first, last = json.loads(capsys.readouterr().out)
    assert first["status"] == "failed" and str(error).split(" Install")[0] in first["found"] and first["fix"]
    assert last["status"] == "ok"


@pytest.mark.parametrize("version, status", [((3, 9, 1), "failed"), ((3, 10, 0), "ok"), ((3, 14, 9), "ok"),
                                             ((3, 15, 0), "failed")])
def test_python_versions(monkeypatch, version, status):
    monkeypatch.setattr(sys, "version_info", version)
    assert only(doctor.python).status == status


@pytest.mark.parametrize("complaint", ["fatal error: omp.h: No such file", "ld: error: cannot find -lgomp"])
def test_a_compiler_without_openmp(tmp_path, monkeypatch, complaint):
    compiler = tmp_path / "g++"
    compiler.write_text(f"#!/bin/sh\necho 'trial.cc:1: {complaint}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("cc_path", str(compiler))
    finding = only(doctor.compiler)
    assert finding.status == "failed" and complaint in finding.found and "libgomp1" in finding.fix


def test_no_openmp_library(monkeypatch):
    monkeypatch.setattr(doctor.ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("cc_path", raising=False)
    assert (only(doctor.openmp).status, only(doctor.openmp).found) == ("failed", "libgomp not found")
    monkeypatch.setenv("cc_path", "clang++")
    assert "libomp not found" in only(doctor.openmp).found and "libomp-dev" in only(doctor.openmp).fix


@pytest.mark.parametrize("have, need, status", [(30, 30, "ok"), (32, 30, "ok"), (29, 30, "warning")])
def test_an_old_libstdcxx_of_conda(tmp_path, monkeypatch, have, need, status):
    loaded, linked = tmp_path / "conda" / "libstdc++.so.6", tmp_path / "libstdc++.so.6"
    loaded.parent.mkdir()
    for path, newest in ((loaded, have), (linked, need)):
        path.write_bytes(b"\0GLIBCXX_3.4.9\0" + f"GLIBCXX_3.4.{newest}".encode() + b"\0GLIBCXX_3.4\0")
    monkeypatch.setattr(doctor, "output_of",
                        lambda *command: f"7f00-7f01 r-xp {loaded}\n" if "-c" in command else f"{linked}\n")
    finding = only(doctor.libstdcxx)
    assert finding.status == status and f"GLIBCXX_3.4.{have} in {loaded}" in finding.found
    assert ("conda install" in finding.fix) == (status == "warning")


@pytest.mark.parametrize("megabytes, status", [(100, "failed"), (500, "warning"), (5000, "ok")])
def test_disk(home, monkeypatch, megabytes, status):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(0, 0, megabytes * 2**20))
    assert only(doctor.disk).status == status


def test_a_home_that_does_not_serve(home):
    assert only(doctor.home).status == "ok"
    (home / ".cache" / "jittor" / "config.json").write_text("{")
    assert only(doctor.home).status == "warning" and "damaged" in only(doctor.home).found


def test_onednn(home, monkeypatch):
    assert "will be copied" in only(doctor.one_dnn).found
    monkeypatch.setenv("use_mkl", "0")
    assert findings(doctor.one_dnn)[1].status == "warning"

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(DetrError, match="pip install onednn-cpu-gomp"):
        findings(doctor.one_dnn)


@pytest.mark.parametrize("flags, status", [("fpu avx avx2 avx512f", "ok"), ("fpu avx", "warning")])
def test_cpu(monkeypatch, flags, status):
    monkeypatch.delenv("DETR_ISA", raising=False)
    monkeypatch.setattr(doctor.processor, "read_cpuinfo", lambda: f"model name\t: A CPU\nflags\t\t: {flags}\n")
    finding = only(doctor.cpu)
    assert finding.status == status and "A CPU" in finding.found
    assert ("AVX-512" in finding.found) == ("avx512f" in flags)


NONE, H200, OLD = Gpu(), Gpu("H200", "580.65.06", "13.0", "9.0"), Gpu("H200", "550.54.15", "12.4", "9.0")
BAD = Toolkit("/a/nvcc", "14.0", problem="/a/nvcc is of CUDA 14.0")
LATE = Toolkit("/a/nvcc", "13.0", problem="the driver 550.54.15 is too old for CUDA 13.0")
CUDA_12 = Toolkit("/b/nvcc", "12.2", "8.9.7")
WHEELS = Toolkit("/c/nvcc", "13.5", "9.28.1", toolkit.WHEELS, parts=toolkit.Parts("/c/nvcc", (), "9", toolkit.WHEELS))
MIXED = Toolkit("/d/nvcc", "13.0", "9.28.1", parts=toolkit.Parts("/d/nvcc", (), "9", toolkit.WHEELS))


@pytest.mark.parametrize("card, toolkits, chosen, lines", [
    (NONE, [], None, ["ok: none, or no NVIDIA driver"]),
    (NONE, [BAD], None, ["ok: none, or no NVIDIA driver", "ok: /a/nvcc is of CUDA 14.0: hidden from Jittor"]),
    (NONE, [WHEELS], None, ["ok: none", "ok: 13.5 of pip's wheels with cuDNN 9.28.1 of pip's wheels at /c/nvcc"]),
    (H200, [], None, ["warning: H200 (driver 580.65.06, CUDA up to 13.0), but no CUDA here is used: the reason"]),
    (H200, [BAD, CUDA_12], CUDA_12, [
        "ok: H200 (driver 580.65.06, CUDA up to 13.0), through CUDA 12.2 at /b/nvcc; with 3 files of Jittor patched. "
        "Such a one has never run on a card",
        "warning: /a/nvcc is of CUDA 14.0: hidden from Jittor",
        "ok: 12.2 of this machine with cuDNN 8.9.7 at /b/nvcc: taken, as the first that serves"]),
    (H200, [MIXED, CUDA_12], MIXED, [
        "ok: H200 (driver 580.65.06, CUDA up to 13.0), through CUDA 13.0 at /d/nvcc; put together in the cache, with "
        "11 files of Jittor patched. Such a one has never run on a card",
        "ok: 13.0 of this machine with cuDNN 9.28.1 of pip's wheels at /d/nvcc: taken, as the first that serves",
        "ok: 12.2 of this machine with cuDNN 8.9.7 at /b/nvcc: another comes before it"]),
    (OLD, [LATE], None, ["warning: H200 (driver 550.54.15, CUDA up to 12.4), but no CUDA here is used: the reason",
                         "warning: the driver 550.54.15 is too old for CUDA 13.0: hidden from Jittor"]),
])
def test_gpu(home, monkeypatch, card, toolkits, chosen, lines):
    monkeypatch.setattr(doctor, "has_card", lambda: False)
    monkeypatch.setattr(doctor, "find_cuda", lambda home, every: Cuda(card, toolkits, chosen, "the reason"))
    found = findings(doctor.gpu)
    assert len(found) == len(lines)
    for finding, line in zip(found, lines, strict=True):
        assert f"{finding.status}: {finding.found}".startswith(line)
        assert bool(finding.fix) == (finding.status != "ok")
        assert ("580" in finding.fix) == (finding.status != "ok" and card == OLD)


@pytest.mark.parametrize("hidden, status", [(None, "warning"), ("", "ok")])
def test_a_card_without_a_driver(home, monkeypatch, hidden, status):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(doctor, "has_card", lambda: True)
    monkeypatch.setattr(doctor, "find_cuda", lambda home, every: Cuda(NONE, [], problem="no driver"))
    finding = only(doctor.gpu)
    assert finding.status == status and ("driver does not answer" in finding.found) == (status == "warning")


def test_a_cutlass_that_was_cut_off(home, monkeypatch):
    assert only(doctor.cutlass).found == "not used (use_cutlass=0)"
    archive = home / ".cache" / "jittor" / "cutlass" / "cutlass.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"half an archive")
    finding = only(doctor.cutlass)
    assert finding.status == "warning" and doctor.CUTLASS_MD5 in finding.fix and str(archive.parent) in finding.fix
    monkeypatch.setenv("use_cutlass", "1")
    assert only(doctor.cutlass).status == "failed"
    monkeypatch.setattr(doctor, "CUTLASS_MD5", doctor.hashlib.md5(b"half an archive").hexdigest())
    assert only(doctor.cutlass).status == "ok"


def test_what_the_user_has_set_is_reported(home, monkeypatch):
    assert only(doctor.variables).status == "ok"
    monkeypatch.setenv("cc_flags", "-g")
    finding = only(doctor.variables)
    assert (finding.status, finding.found) == ("warning", "cc_flags=-g") and finding.fix.endswith("unset cc_flags")
