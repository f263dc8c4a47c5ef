"""Which CUDA Jittor is shown, on made-up machines: scripts play nvcc and nvidia-smi."""

from pathlib import Path

import pytest

from detr_jittor.jt.setup import cuda

GPU = "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1234)'"


def script(path: Path, line: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def toolkit(root: Path, version: str = "12.2", cudart: bool = True, cudnn: str = "8") -> str:
    """A CUDA installation below `root`; its nvcc."""
    (root / "lib64").mkdir(parents=True)
    (root / "include").mkdir()
    if cudart:
        (root / "lib64" / "libcudart.so").touch()
    if cudnn:
        (root / "lib64" / "libcudnn.so").touch()
        (root / "include" / "cudnn.h").touch()
        (root / "include" / "cudnn_version.h").write_text(
            f"#define CUDNN_MAJOR {cudnn}\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 7\n")
    return script(root / "bin" / "nvcc", f"echo 'Cuda compilation tools, release {version}, V{version}.1'")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with nothing but `tmp_path/bin` on its PATH."""
    monkeypatch.setattr(cuda, "USUAL_PLACES", ())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(cuda.shutil, "which", lambda name: str(tmp_path / "bin" / name))
    script(tmp_path / "bin" / "nvidia-smi", GPU)
    return tmp_path


def test_nothing(bare):
    (bare / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert cuda.find_cuda(bare) == cuda.Cuda("", [], problem="no GPU, or no NVIDIA driver for it")


def test_a_good_one(bare, monkeypatch):
    nvcc = toolkit(bare / "cuda-12.2")
    monkeypatch.setattr(cuda, "USUAL_PLACES", (nvcc,))
    assert cuda.find_cuda(bare) == cuda.Cuda("NVIDIA H200", [cuda.Toolkit(nvcc, "12.2", "8.9.7")], nvcc=nvcc)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_good_one_but_the_user_hides_the_gpu(bare, monkeypatch, hidden):
    monkeypatch.setattr(cuda, "USUAL_PLACES", (toolkit(bare / "cuda-12.2"),))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert cuda.find_cuda(bare).nvcc == ""


def test_nvcc_without_a_driver_is_not_used(bare, monkeypatch):
    monkeypatch.setattr(cuda, "USUAL_PLACES", (toolkit(bare / "cuda-12.2"),))
    (bare / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    found = cuda.find_cuda(bare)
    assert found.nvcc == "" and len(found.toolkits) == 1


@pytest.mark.parametrize("parts, problem", [
    ({"version": "13.0"}, "CUDA 13.0, Jittor 1.3.11 knows 11 and 12"),
    ({"version": "10.2"}, "CUDA 10.2, Jittor 1.3.11 knows 11 and 12"),
    ({"cudart": False}, "libcudart.so not found"),
    ({"cudnn": "9"}, "cuDNN 8 not found"),
    ({"cudnn": ""}, "cuDNN 8 not found"),
])
def test_what_jittor_cannot_use(bare, parts, problem):
    found = cuda.inspect(toolkit(bare / "cuda", **parts))
    assert problem in found.problem


def test_an_nvcc_that_does_not_run(bare):
    assert "--version fails" in cuda.inspect(script(bare / "cuda" / "bin" / "nvcc", "exit 1")).problem


def test_a_wrapper_on_the_path_is_passed_over(bare, monkeypatch):
    """`/usr/local/bin/nvcc` as a script: its libraries are not beside it, and Jittor would look for them there."""
    nvcc = toolkit(bare / "cuda-12.2")
    wrapper = script(bare / "bin" / "nvcc", f'exec {nvcc} "$@"')
    monkeypatch.setattr(cuda, "USUAL_PLACES", (nvcc,))
    found = cuda.find_cuda(bare)
    assert [t.nvcc for t in found.toolkits] == [wrapper, nvcc]
    assert "libcudart.so not found" in found.toolkits[0].problem and found.nvcc == nvcc


def test_jittors_own_cuda_comes_first(bare, monkeypatch):
    own = toolkit(bare / ".cache" / "jittor" / "jtcuda" / "cuda12.2_cudnn8_linux")
    monkeypatch.setattr(cuda, "USUAL_PLACES", (toolkit(bare / "cuda-11.8", "11.8"),))
    assert cuda.find_cuda(bare).nvcc == own
