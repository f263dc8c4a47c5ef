"""A CUDA put together: links to what lies in several places, made once, and nothing that is installed changes."""

import subprocess
import sys
from pathlib import Path

import made_machines as made
import pytest

from detr_jittor.jt.setup import toolkit


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An environment without any wheel"""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *(p for p in sys.path if "site-packages" not in p)])
    monkeypatch.setattr(toolkit, "SYSTEM", (tmp_path / "usr" / "include", tmp_path / "usr" / "lib"))
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def leads_to(place: Path) -> dict[str, Path]:
    return {str(p.relative_to(place)): p.resolve() for p in place.rglob("*") if p.is_symlink()}


def test_everything_lies_where_jittor_looks(site, tmp_path):
    root = made.wheels(site)
    parts = toolkit.find(str(root / "bin" / "nvcc"), 13)
    nvcc = toolkit.place(tmp_path / "home", parts)
    folder = nvcc.parents[1]
    assert folder == toolkit.folder(tmp_path / "home", parts)
    links = leads_to(folder)
    for header in ("cuda_runtime.h", "cublas_v2.h", "cublas_api.h", "curand.h", "crt"):
        assert links[f"include/{header}"] == root / "include" / header
    assert links["include/cudnn_graph.h"] == site / "nvidia/cudnn/include/cudnn_graph.h"
    for name in ("cudart", "cublas", "cublasLt", "curand", "nvrtc"):
        library = next((root / "lib").glob(f"lib{name}.so.*"))
        assert links[f"lib64/{library.name}"] == links[f"lib64/lib{name}.so"] == library, "with a version and without"
    assert links["lib64/libcudnn_graph.so"] == site / "nvidia/cudnn/lib/libcudnn_graph.so.9"
    assert not nvcc.is_symlink(), "Jittor would look for the rest where the link leads"
    run = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    assert "release 13.5" in run.stdout


def test_the_compilers_own_headers_and_runtime_come_first(site, tmp_path):
    """Those of the wheels may be of another version."""
    made.wheels(site, compiler=False)
    nvcc = made.toolkit(tmp_path / "cuda", "13.0", with_cudnn="", libraries=False)
    links = leads_to(toolkit.place(tmp_path / "home", toolkit.find(nvcc, 13)).parents[1])
    assert links["include/cuda_runtime.h"] == tmp_path / "cuda/include/cuda_runtime.h"
    assert links["lib64/libcudart.so"] == tmp_path / "cuda/lib64/libcudart.so"
    assert links["include/cublas_v2.h"] == site / "nvidia/cu13/include/cublas_v2.h"
    assert links["lib64/libcublas.so"] == site / "nvidia/cu13/lib/libcublas.so.13"


def test_the_systems_headers_are_not_linked_as_a_whole(site, tmp_path, monkeypatch):
    """Debian's CUDA lies in /usr, and every compiler looks there by itself."""
    include, lib = toolkit.SYSTEM
    made.cudnn(include, lib, "9", ".9")
    made.files(include, "cuda_runtime.h", "cublas_v2.h", "curand.h", "stdio.h")
    made.files(lib, "libcudart.so.12", "libcublas.so.12", "libcurand.so.10")
    monkeypatch.setattr(toolkit, "beside", lambda nvcc: [toolkit.Place(include, lib)])
    names = dict(toolkit.find("/usr/bin/nvcc", 12).links)
    assert "include/stdio.h" not in names and "include/cudnn.h" in names and "lib64/libcudart.so" in names


def test_made_once_and_anew_for_other_parts(site, tmp_path):
    root = made.wheels(site)
    parts = toolkit.find(str(root / "bin" / "nvcc"), 13)
    nvcc = toolkit.place(tmp_path / "home", parts)
    before = nvcc.stat().st_mtime_ns
    assert toolkit.place(tmp_path / "home", parts) == nvcc and nvcc.stat().st_mtime_ns == before
    made.files(root / "lib", "libcublas.so.13.1")
    other = toolkit.find(str(root / "bin" / "nvcc"), 13)
    assert toolkit.folder(tmp_path / "home", other) != nvcc.parents[1]
    assert [p.name for p in nvcc.parents[2].iterdir()] == [nvcc.parent.parent.name]


def test_a_path_with_a_space(site, tmp_path):
    nvcc = made.toolkit(tmp_path / "my cuda", "13.0", with_cudnn="9")
    run = subprocess.run([toolkit.place(tmp_path / "home", toolkit.find(nvcc, 13)), "--version"], capture_output=True,
                         text=True)
    assert "release 13.0" in run.stdout
