"""The kernels for a card, of which there is none here: compiled for every generation, chosen by the device, and what
the tests of the other kernels do not ask of them. Their results are compared there, on a processor (emulation.h)."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detr_jittor.errors import DetrError
from detr_jittor.jt import kernels
from detr_jittor.jt.kernels import cuda, fast, plain
from detr_jittor.jt.kernels.cuda import library, norm
from detr_jittor.jt.kernels.cuda.attention import softmax
from detr_jittor.jt.setup import gpu
from detr_jittor.jt.setup.cuda import find_nvcc
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin import seeding

CU = sorted(path for path in map(Path, library.SOURCES) if path.suffix == ".cu")


@pytest.fixture
def nvcc(tmp_path) -> str:
    """One of CUDA 13"""
    for found in find_nvcc(tmp_path):
        told = subprocess.run([found, "--version"], capture_output=True, text=True)
        if "release 13." in told.stdout:
            return found
    pytest.skip('there is no nvcc 13 here; pip install "detr-jittor[cuda13]" brings one')


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", CU, ids=lambda path: path.stem)
def test_every_source_compiles_for_every_generation(source, nvcc, tmp_path):
    """From the first one that jt/setup/gpu.py names to the last that this nvcc knows, with the call of the operator."""
    told = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
    generations = [int(number) for number in re.findall(r"sm_(\d+)", told)]
    assert min(generations) == float(gpu.FIRST_CARDS[13]) * 10
    text = source.read_text(encoding="utf-8")
    calls = re.findall(r"^static void (\w+)\(Call& call\)", text, re.MULTILINE)
    used = "\n".join(f"detr::Call {name}(inputs, outputs, {{1.0}}); detr::{name}({name});" for name in calls)
    made = tmp_path / source.name
    made.write_text(f'#include "{source.parent}/kernel.h"\n#include "{source}"\n'
                    "struct Var { void* mem_ptr; std::vector<int64_t> shape; };\n"
                    f"void run(std::vector<Var*> inputs, std::vector<Var*> outputs) {{\n{used}\n}}\n", encoding="utf-8")
    codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in generations]
    command = [nvcc, "-std=c++17", "-Werror=all-warnings", "-Xptxas=-v", *codes, "-c", made, "-o", tmp_path / "made.o"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    compiled = re.findall(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", run.stderr)
    names = re.findall(r"__global__ void (\w+)\(", text)
    assert calls and names
    assert {(name, number) for name in names for number in generations} == {
        (name, int(number)) for symbol, number in compiled for name in names if f"{len(name)}{name}" in symbol}


@pytest.mark.parametrize("plain_only, use_cuda, module", [(False, 1, cuda), (True, 1, plain), (True, 0, plain)])
def test_the_device_chooses(plain_only, use_cuda, module, monkeypatch):
    jittor = SimpleNamespace(flags=SimpleNamespace(use_cuda=use_cuda), sync_all=jt.sync_all)
    monkeypatch.setattr(kernels, "jt", jittor)
    monkeypatch.setattr(fast.library, "jt", jittor)
    monkeypatch.setattr(kernels, "in_force", None)
    choice = kernels.Kernels(plain_only)
    assert choice.module is module and kernels.in_force is choice and kernels.attention is module.attention
    assert ("CUDA" in choice.words) == (module is cuda)
    reason = "the kernels for a card" if module is cuda else "as asked"
    with pytest.raises(DetrError, match=f"no bfloat16 here: {reason}"):
        kernels.Kernels(plain_only, bfloat16=True)


def test_a_card_has_every_kernel_and_none_of_the_processors():
    offered = {name for name in fast.__all__ if hasattr(plain, name)}
    assert set(cuda.__all__) == offered
    for name in offered:
        assert getattr(cuda, name).__module__.startswith((cuda.__name__, plain.__name__))


@pytest.mark.slow
@pytest.mark.parametrize("p, key", [(0.1, 0), (0.5, 0x9ABCDEF1), (0.999, 0xFFFFFFFF)])
def test_dropout_drops_what_the_processor_drops(p, key):
    shape = 3, 7, 1000
    kept = cuda.dropout(jt.ones(shape), p, key).numpy()
    np.testing.assert_array_equal(kept != 0, seeding.keep_mask(key, p, shape))
    np.testing.assert_array_equal(kept, fast.dropout(jt.ones(shape), p, key).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 0, 1), (0, 1, 3, 2), (3, 1, 0, 2)])
@pytest.mark.parametrize("factor", [None, 3], ids=["alone", "computed with what is before it"])
def test_the_transpose_that_serves_on_a_card(axes, factor):
    """Jittor's operator that moves the last axis there too (patches.ANY_CUDA), with its gradient."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)[:len(axes)]).astype(np.float32)
    var = jt.array(x)
    y = jt.fuse_transpose(var * factor if factor else var, axes)
    wanted = (x * factor if factor else x).transpose(axes)
    weights = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    dx = jt.grad((y * jt.array(weights)).sum(), var)
    np.testing.assert_array_equal(y.numpy(), wanted)
    np.testing.assert_array_equal(dx.numpy(), weights.transpose(np.argsort(axes)) * np.float32(factor or 1))


@pytest.mark.slow
def test_a_nan_is_not_hidden():
    """A run that has diverged is to be told, not to go on with zeros."""
    x = np.ones((2, 3, 4, 5), np.float32)
    x[1, 2, 3, 4] = np.nan
    one = jt.ones(3)
    y = norm.apply(norm.FrozenNorm, jt.array(x), None, True, one, one, one, one).numpy()
    assert np.argwhere(np.isnan(y)).tolist() == [[1, 2, 3, 4]]
    for rows in (cuda.layer_norm(jt.array(x), jt.ones(5), jt.zeros(5)), softmax(jt.array(x), None, 1.0, 0.0, 0)):
        assert np.argwhere(np.isnan(rows.numpy()).all(3)).tolist() == [[1, 2, 3]]
