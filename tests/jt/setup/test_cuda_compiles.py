"""Jittor's core and operators compiled and linked with nvcc, where there is a CUDA that we put together, but no card.

A pretended card (pretended_card.cc) has the operators compiled, loaded and started; it computes nothing, so nothing is
said here about results. All is made anew, which takes some twenty minutes on two cores.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detr_jittor.config.presets import OF_BOX
from detr_jittor.jt.setup import cuda, toolkit

pytestmark = pytest.mark.slow

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
CU = ROOT / "detr_jittor/jt/kernels/cuda/cu"
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
# A training step, an evaluation with its losses and an inference; then which libraries of the cache are loaded
TWIN = """
import numpy as np
from small import NUM_CLASSES, SMALL, small_batch
from detr_jittor.jt.twin import JittorTwin
config = SMALL.replace(device="cuda", **{parts})
twin = JittorTwin(config, NUM_CLASSES)
batch = small_batch(0, config.model.masks)
log = twin.train_step(batch, 0, 1.0)
outputs, evaluated = twin.evaluate(batch)
logits = twin.predict(batch).logits
loaded = {{line.split()[-1] for line in open("/proc/self/maps") if jt.flags.cache_path in line}}
print(json.dumps({{"device": twin.device, "kernels": twin.kernels, "steps": twin.optimizer.steps, "names": list(log),
                   "evaluated": list(evaluated), "finite": bool(np.isfinite([*log.values()]).all()),
                   "shape": logits.shape, "masks": None if outputs.masks is None else outputs.masks.shape,
                   "loaded": sorted(loaded), "nvcc": plan.variables["nvcc_path"]}}))
"""
# Both detectors, and masks, which DETR has: the reference's frozen norm, and what the presets of the second one have.
DETR = {"softmax", "softmax_backward", "layer_norm", "layer_norm_backward", "frozen_norm", "frozen_norm_backward",
        "dropout", "squares", "adamw"}
DETECTORS = {
    "detr": ({}, DETR),
    "masks": ({"masks": True, "hidden_dim": 128, "nheads": 8}, DETR),
    "box": ({**OF_BOX, "query_groups": 2, "backbone_norm": "batch", "backbone_stages": 3, "pre_norm": True,
             "ema": True},
            {"softmax", "softmax_backward", "layer_norm", "layer_norm_backward", "sample", "sample_backward",
             "dropout", "squares", "adamw"}),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def start(home):
    """Run a program that sees a card, in a process of its own."""
    there = [t for nvcc in cuda.find_nvcc(home) if (t := cuda.inspect(nvcc)).parts]
    if not there:
        pytest.skip('there is no CUDA with cuDNN 9 here; pip install "detr-jittor[cuda13]" brings one, 2.1 GB')
    include = toolkit.place(home, there[0].parts).parents[1] / "include"
    card = home / "pretended_card.so"
    subprocess.run(["g++", "-std=c++17", "-shared", "-fPIC", f"-I{include}", HERE / "pretended_card.cc", "-o", card],
                   check=True)

    def run(program: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "HOME": str(home), "LD_PRELOAD": str(card)}
        places = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(places)
        return subprocess.run([sys.executable, "-c", START + program], env=environment, capture_output=True, text=True)

    return run


def operators(cache: str) -> set[str]:
    """The names of the operators that were compiled; all for the card, since each program begins with it."""
    return {p.name.partition("__")[0] for p in Path(cache, "jit").glob("*.so")}


def test_core_and_operators(start, home):
    # The process that compiles the core ended with a double free, as long as it loaded jit_utils_core twice and the
    # pretended card had both share their variables (core.load_once). What counts is that the next one finds all of it
    # whole.
    first = start("")
    second = start(OPERATORS)
    assert second.returncode == 0, first.stderr[-2000:] + second.stderr[-2000:]
    found = json.loads(second.stdout.splitlines()[-1])
    assert found["cuda"] == 1 and found["nvcc"].startswith(str(home)) and found["core"].startswith(str(home))
    assert "-std=c++17" in found["flags"] and "-code=sm_90" in found["flags"] and "fast_math" not in found["flags"]
    wanted = {"cudnn_conv", "cudnn_conv_backward_x", "cudnn_conv_backward_w", "cublas_matmul", "cublas_batched_matmul",
              "curand_random", "cub_argsort", "cub_arg_reduce", "cub_cumsum", "cub_where"}
    assert wanted <= operators(found["cache"])
    source = next(Path(found["cache"], "jit").glob("cudnn_conv__*_op.cc")).read_text()
    assert "CUDNN_FMA_MATH" in source, "of a patched source, not of the one that is installed"


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_operator_of_both_detectors(start, detector):
    """nvcc has compiled each, and none is the processor's, to which a card would hand its numbers."""
    parts, kernels = DETECTORS[detector]
    run = start(TWIN.format(parts=parts))
    assert run.returncode == 0, run.stdout[-1000:] + run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["device"], found["steps"], found["finite"]) == ("cuda", 1, True)
    assert found["kernels"].startswith("CUDA") and ("loss_giou_dn" in found["names"]) == (detector == "box")
    assert found["shape"] == [2, 20, 11 + (detector != "box")]
    assert found["masks"] == ([2, 20, 16, 24] if detector == "masks" else None)
    assert ("loss_mask" in found["names"]) == (detector == "masks")
    assert "grad_norm" not in found["evaluated"] and set(found["evaluated"]) < set(found["names"])
    assert not [path for path in found["loaded"] if "detr_kernels_" in path], "the processor's own kernels"
    made = [Path(path) for path in found["loaded"] if Path(path).parent.name == "jit"]
    commands = {path.stem: path.with_suffix(".so.key").read_text() for path in made}
    assert [name for name, command in commands.items() if not command.startswith(f'"{found["nvcc"]}" ')] == []
    assert len(made) > 50 and {"cudnn_conv", "cudnn_conv_backward_x", "cudnn_conv_backward_w", "cublas_matmul",
                               "cublas_batched_matmul"} <= {name.partition("__")[0] for name in commands}
    sources = "".join(path.with_suffix(".cc").read_text() for path in made)
    assert kernels == {*re.findall(r"detr::(\w+)\(call\)", sources)}


def test_no_kernel_of_ours_is_left_out():
    calls = {name for path in CU.glob("*.cu") for name in re.findall(r"^static void (\w+)\(Call& call\)",
                                                                     path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert calls == set().union(*(kernels for _, kernels in DETECTORS.values()))
