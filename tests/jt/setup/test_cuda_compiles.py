"""Jittor's core and operators compiled and linked with nvcc, where there is a CUDA that we put together, but no card.

A pretended card (pretended_card.cc) has every operator compiled, loaded and started; it computes nothing, so nothing
is said here about results. All is made anew, which takes some ten minutes on two cores.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detr_jittor.jt.setup import cuda, toolkit

pytestmark = pytest.mark.slow

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
START = """
import json
from detr_jittor.jt.setup import cuda, gpu
cuda.find_gpu = lambda: gpu.Gpu("a pretended card")
from detr_jittor.jt.setup.runtime import jt, plan
jt.flags.use_cuda = 1
"""
OPERATORS = """
x, w = jt.randn(2, 8, 9, 9), jt.randn(4, 8, 3, 3)
y = jt.nn.conv2d(x, w, padding=1)
matrices = jt.rand(2, 3, 4)
found = [y, *jt.grad(y, [x, w]), jt.matmul(matrices[0], matrices[1].transpose()),
         jt.matmul(matrices, matrices.transpose(0, 2, 1)), *jt.argsort(matrices), *jt.argmax(matrices, 1),
         jt.cumsum(matrices[0], 1), *jt.where(matrices > 0.5), jt.nn.softmax(matrices, -1)]
jt.sync(found)
jt.sync_all(True)
print(json.dumps({"cuda": jt.has_cuda, "nvcc": plan.variables["nvcc_path"], "cache": jt.flags.cache_path,
                  "flags": jt.flags.nvcc_flags, "core": jt.compiler.core.__file__}))
"""
DETECTORS = """
from detr_jittor.twin.synthetic import random_batch
from detr_jittor.config.options import Config
from detr_jittor.frameworks.load import load_twin
small = Config().replace(backbone="resnet18", backbone_norm="frozen", enc_layers=1, dec_layers=2, hidden_dim=64,
                         dim_feedforward=64, num_queries=10, num_classes=4, device="cuda")
kernels = []
for more in ({}, {"decoder": "box"}):
    twin = load_twin("jittor")(small.replace(**more), 4)
    twin.train_step(random_batch([(64, 96), (96, 64)], 4, 0), 1, 1.0)
    twin.predict(random_batch([(64, 96)], 4, 0))
    kernels.append(f"{twin.device}: {twin.kernels}")
print(json.dumps({"kernels": kernels, "cache": jt.flags.cache_path}))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def start(home):
    """Run a program that sees a card, in a process of its own; what it printed last."""
    there = [t for nvcc in cuda.find_nvcc(home) if (t := cuda.inspect(nvcc)).parts]
    if not there:
        pytest.skip('there is no CUDA with cuDNN 9 here; pip install "detr-jittor[cuda13]" brings one, 2.1 GB')
    include = toolkit.place(home, there[0].parts).parents[1] / "include"
    card = home / "pretended_card.so"
    subprocess.run(["g++", "-std=c++17", "-shared", "-fPIC", f"-I{include}", HERE / "pretended_card.cc", "-o", card],
                   check=True)

    def run(program: str) -> dict:
        environment = {**os.environ, "HOME": str(home), "LD_PRELOAD": str(card)}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        run = subprocess.run([sys.executable, "-c", START + program], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        return json.loads(run.stdout.splitlines()[-1])

    return run


def operators(cache: str) -> set[str]:
    """The names of the operators that were compiled for the card."""
    return {p.name.partition("__")[0] for p in Path(cache, "jit").glob("*_JIT_cuda_1_*.so")}


def test_core_and_operators(start, home):
    found = start(OPERATORS)
    assert found["cuda"] == 1 and found["nvcc"].startswith(str(home)) and found["core"].startswith(str(home))
    assert "-std=c++17" in found["flags"] and "-code=sm_90" in found["flags"] and "fast_math" not in found["flags"]
    wanted = {"cudnn_conv", "cudnn_conv_backward_x", "cudnn_conv_backward_w", "cublas_matmul", "cublas_batched_matmul",
              "curand_random", "cub_argsort", "cub_arg_reduce", "cub_cumsum", "cub_where"}
    assert wanted <= operators(found["cache"])
    source = next(Path(found["cache"], "jit").glob("cudnn_conv__*_op.cc")).read_text()
    assert "CUDNN_FMA_MATH" in source, "of a patched source, not of the one that is installed"


def test_both_detectors(start):
    """A step of training and a prediction of each: whatever they use is compiled for the card."""
    found = start(DETECTORS)
    assert found["kernels"] == ["cuda: plain Jittor operators (they are for the CPU)"] * 2
    assert len([*Path(found["cache"], "jit").glob("*_JIT_cuda_1_*.so")]) > 100
