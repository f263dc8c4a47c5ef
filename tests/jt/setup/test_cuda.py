"""Which CUDA Jittor is shown, on made-up machines."""

import sys
from pathlib import Path

import made_machines as made
import pytest

from detr_jittor.jt.setup import cuda, gpu, toolkit

H200 = gpu.Gpu("NVIDIA H200", "580.65.06", "13", "9.0")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with a card and nothing but `tmp_path/bin` on its PATH."""
    monkeypatch.setattr(cuda, "USUAL_PLACES", ())
    monkeypatch.setattr(toolkit, "SYSTEM", (tmp_path / "usr" / "include", tmp_path / "usr" / "lib"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *(p for p in sys.path if "site-packages" not in p)])
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    for name in ("CUDA_VISIBLE_DEVICES", "nvcc_path"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cuda.shutil, "which", lambda name: str(tmp_path / "bin" / name))
    made.driver(tmp_path / "bin")
    (tmp_path / "site").mkdir()
    return tmp_path


def test_nothing(bare):
    (bare / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert cuda.find_cuda(bare) == cuda.Cuda(gpu.Gpu(), [], problem="no GPU, or no NVIDIA driver for it")


def test_a_card_and_no_cuda(bare):
    assert cuda.find_cuda(bare) == cuda.Cuda(H200, [], problem="nvcc not found")
    assert len(made.asked(bare / "bin")) == 1


@pytest.mark.parametrize("version, cuda_, capability, told, questions", [
    ("590.44.01", "13.1", "12.0", ("590.44.01", "13", "12.0"), 1),
    ("590.44.01", "13.1", "[N/A]", ("590.44.01", "13", ""), 1),
    ("570.86", "12.8", "9.0", ("570.86", "12.8", "9.0"), 2),
    ("570.86", "13.0", "9.0", ("570.86", "13.0", "9.0"), 2),  # with NVIDIA's package for forward compatibility
    ("470.182.03", "11.4", "", ("470.182.03", "11.4", ""), 3),
    ("580.95.05", "13.0", "", ("580.95.05", "13.0", ""), 3),  # with an nvidia-smi older than the driver
])
def test_what_the_driver_tells(bare, version, cuda_, capability, told, questions):
    made.driver(bare / "bin", "NVIDIA L4, 24 GB", version, cuda_, capability)
    assert gpu.find_gpu() == gpu.Gpu("NVIDIA L4, 24 GB", *told)
    assert len(made.asked(bare / "bin")) == questions


@pytest.mark.parametrize("version, capability", [("580.65.06", "9.0"), ("570.86", "9.0"), ("470.182.03", "")])
def test_cards_are_counted(bare, version, capability):
    made.driver(bare / "bin", version=version, capability=capability, count=3)
    assert gpu.find_gpu().count == 3


def test_nothing_is_started_without_a_driver(bare, monkeypatch):
    """Not even an nvcc, of which nothing would be made: Jittor starts often, and on most machines there is no card."""
    made.wheels(bare / "site")
    (bare / "bin" / "nvidia-smi").unlink()
    monkeypatch.setattr(cuda.shutil, "which", lambda name: None)
    with monkeypatch.context() as m:
        m.setattr(gpu.subprocess, "run", lambda *command, **_: pytest.fail(f"{command} was started"))
        assert cuda.find_cuda(bare) == cuda.Cuda(gpu.Gpu(), [], problem="no GPU, or no NVIDIA driver for it")
    assert [t.version for t in cuda.find_cuda(bare, every=True).toolkits] == ["13.5"], "whoever tells of them asks"


def test_cuda_12_with_cudnn_8_is_taken_as_it_is(bare, monkeypatch):
    nvcc = made.toolkit(bare / "cuda-12.2")
    monkeypatch.setattr(cuda, "USUAL_PLACES", (nvcc,))
    found = cuda.find_cuda(bare)
    assert found == cuda.Cuda(H200, [cuda.Toolkit(nvcc, "12.2", "8.9.7")], found.chosen)
    assert found.chosen.nvcc_for(bare) == nvcc and found.chosen.parts is None


@pytest.mark.parametrize("version", ["12.8", "13.0"])
def test_the_machines_cuda_with_cudnn_9_is_put_together(bare, version):
    nvcc = made.toolkit(bare / "cuda", version, with_cudnn="9")
    found = cuda.inspect(nvcc)
    assert (found.problem, found.version, found.cudnn, found.source) == ("", version, "9.9.7", toolkit.MACHINE)
    assert found.parts.cudnn_source == toolkit.MACHINE
    assert found.nvcc_for(bare) == str(toolkit.folder(bare, found.parts) / "bin" / "nvcc")


def test_wheels_alone(bare):
    """Nothing but the driver and pip."""
    root = made.wheels(bare / "site")
    found = cuda.find_cuda(bare)
    assert (found.chosen.version, found.chosen.cudnn, found.chosen.nvcc) == ("13.5", "9.9.7", str(root / "bin/nvcc"))
    assert found.chosen.source == found.chosen.parts.cudnn_source == toolkit.WHEELS


def test_the_machines_compiler_with_pytorchs_wheels(bare, monkeypatch):
    """PyTorch brings cuDNN, cuBLAS and cuRAND, but no compiler."""
    made.wheels(bare / "site", compiler=False)
    nvcc = made.toolkit(bare / "cuda-13.0", "13.0", with_cudnn="", libraries=False)
    monkeypatch.setattr(cuda, "USUAL_PLACES", (nvcc,))
    found = cuda.find_cuda(bare)
    assert (found.chosen.nvcc, found.chosen.source, found.chosen.parts.cudnn_source) == (
        nvcc, toolkit.MACHINE, toolkit.WHEELS)


def test_the_wheels_come_before_the_machines(bare, monkeypatch):
    root = made.wheels(bare / "site")
    monkeypatch.setattr(cuda, "USUAL_PLACES", (made.toolkit(bare / "cuda-12.2"),))
    found = cuda.find_cuda(bare, every=True)
    assert [t.problem for t in found.toolkits] == ["", ""] and found.chosen.nvcc == str(root / "bin" / "nvcc")
    assert cuda.find_cuda(bare) == cuda.Cuda(H200, found.toolkits[:1], found.chosen), "the other one is not asked"


def test_jittors_own_cuda_comes_first(bare):
    own = made.toolkit(bare / ".cache" / "jittor" / "jtcuda" / "cuda12.2_cudnn8_linux")
    made.wheels(bare / "site")
    assert cuda.find_cuda(bare).chosen.nvcc == own


def test_cudnn_of_debians_packages(bare, monkeypatch):
    made.cudnn(*toolkit.SYSTEM, "9", ".9")
    found = cuda.inspect(made.toolkit(bare / "cuda-13.0", "13.0", with_cudnn=""))
    assert (found.problem, found.cudnn) == ("", "9.9.7")


@pytest.mark.parametrize("driver, problem", [
    ({"version": "570.86", "cuda": "12.8"}, "the driver 570.86 is too old for CUDA 13.5: it knows CUDA up to 12.8"),
    ({"capability": "7.0"}, "CUDA 13.5 compiles for cards of generation 7.5 or later, and NVIDIA H200 is of 7.0"),
])
def test_too_old_a_driver_or_card(bare, monkeypatch, driver, problem):
    """The next CUDA is taken if it fits."""
    made.wheels(bare / "site")
    made.driver(bare / "bin", **driver)
    assert cuda.find_cuda(bare).problem == problem
    nvcc = made.toolkit(bare / "cuda-12.2")
    monkeypatch.setattr(cuda, "USUAL_PLACES", (nvcc,))
    found = cuda.find_cuda(bare)
    assert found.toolkits[0].problem == problem and found.chosen.nvcc == nvcc


def test_a_driver_that_tells_little_is_trusted(bare):
    made.wheels(bare / "site")
    made.script(bare / "bin" / "nvidia-smi", 'test "$1" = -L && echo "GPU 0: NVIDIA H200 (UUID: GPU-1234)"')
    found = cuda.find_cuda(bare)
    assert found.gpu == gpu.Gpu("NVIDIA H200") and found.chosen.version == "13.5"


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_good_one_but_the_user_hides_the_gpu(bare, monkeypatch, hidden):
    monkeypatch.setattr(cuda, "USUAL_PLACES", (made.toolkit(bare / "cuda-12.2"),))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert cuda.find_cuda(bare).chosen is None


def test_a_good_one_but_the_user_chose_another(bare, monkeypatch):
    made.wheels(bare / "site")
    monkeypatch.setenv("nvcc_path", "")
    found = cuda.find_cuda(bare)
    assert found.chosen is None and found.problem == "nvcc_path= is set"


def test_nvcc_without_a_driver_is_not_used(bare, monkeypatch):
    monkeypatch.setattr(cuda, "USUAL_PLACES", (made.toolkit(bare / "cuda-12.2"),))
    (bare / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert cuda.find_cuda(bare).chosen is None
    found = cuda.find_cuda(bare, every=True)
    assert found.chosen is None and len(found.toolkits) == 1


@pytest.mark.parametrize("version, parts, problem", [
    ("14.0", {}, "is of CUDA 14.0, Jittor 1.3.11 is known to work with 11 and 12, and patched with 13"),
    ("10.2", {}, "is of CUDA 10.2"),
    ("11.8", {"cudart": False}, "lib64/libcudart.so not found"),
    ("11.8", {"with_cudnn": "9"}, "cuDNN 8 not found"),
    ("11.8", {"with_cudnn": ""}, "cuDNN 8 not found"),
    ("12.2", {"with_cudnn": ""}, "cuDNN 8 or 9 not found"),
    ("13.0", {"cudart": False, "with_cudnn": "9"}, "CUDA's runtime not found"),
    ("13.0", {"with_cudnn": ""}, "cuDNN 9 not found"),
    ("13.0", {"with_cudnn": "8"}, "cuDNN 9 not found"),
    ("13.0", {"libraries": False, "with_cudnn": ""}, "cuBLAS, cuRAND, cuDNN 9 not found"),
])
def test_what_jittor_cannot_use(bare, version, parts, problem):
    nvcc = made.toolkit(bare / "cuda", version, **parts)
    found = cuda.inspect(nvcc)
    assert problem in found.problem and nvcc in found.problem


def test_wheels_of_another_cuda_do_not_serve(bare):
    """cuDNN has one folder for every CUDA, and needs the cuBLAS of its own."""
    made.wheels(bare / "site", with_cudnn="cu12")
    assert "cuDNN 9 not found" in cuda.find_cuda(bare).problem
    nvcc = made.toolkit(bare / "cuda-12.8", "12.8", with_cudnn="", libraries=False)
    assert "cuBLAS, cuRAND not found" in cuda.inspect(nvcc).problem


def test_headers_and_library_of_cudnn_are_of_one_version(bare):
    nvcc = made.toolkit(bare / "cuda", "13.0", with_cudnn="8")
    made.files(bare / "cuda" / "lib64", "libcudnn.so.9")
    assert "cuDNN 9 not found" in cuda.inspect(nvcc).problem


def test_an_nvcc_that_does_not_run(bare):
    assert "--version fails" in cuda.inspect(made.script(bare / "cuda" / "bin" / "nvcc", "exit 1")).problem


@pytest.mark.parametrize("version, with_cudnn", [("12.2", "8"), ("13.0", "9")])
def test_a_wrapper_on_the_path_is_passed_over(bare, monkeypatch, version, with_cudnn):
    """`/usr/local/bin/nvcc` as a script: its headers are not beside it, and those of wheels are of another version."""
    made.wheels(bare / "site", compiler=False)
    nvcc = made.toolkit(bare / f"cuda-{version}", version, with_cudnn=with_cudnn)
    wrapper = made.script(bare / "bin" / "nvcc", f'exec {nvcc} "$@"')
    monkeypatch.setattr(cuda, "USUAL_PLACES", (nvcc,))
    found = cuda.find_cuda(bare)
    assert [t.nvcc for t in found.toolkits] == [wrapper, nvcc]
    assert found.toolkits[0].problem.startswith("CUDA's runtime") and found.chosen.nvcc == nvcc


def test_a_card_is_seen_without_its_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "PCI", tmp_path / "none")
    assert not gpu.has_card()
    monkeypatch.setattr(gpu, "PCI", tmp_path)
    for name, vendor, kind in (("0", "0x8086", "0x030000"), ("1", "0x10de", "0x040300")):  # another's; the sound of one
        (tmp_path / name).mkdir()
        Path(tmp_path, name, "vendor").write_text(f"{vendor}\n")
        Path(tmp_path, name, "class").write_text(f"{kind}\n")
    assert not gpu.has_card()
    Path(tmp_path, "1", "class").write_text("0x030200\n")
    assert gpu.has_card()
