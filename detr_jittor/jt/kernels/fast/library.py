"""The C++ side of the fast kernels: compiled once into Jittor's cache; one Jittor operator runs them all by name."""

import functools
from pathlib import Path

from detr_jittor.jt import runtime
from detr_jittor.jt.runtime import jt

SOURCES = sorted(str(path) for path in (Path(__file__).parent / "cc").iterdir() if path.suffix in (".h", ".cc"))
# Not -ffast-math: a loss or gradient that is not finite must be seen.
FLAGS = " -fopenmp -ftree-vectorize -fno-math-errno -fno-trapping-math -fno-signed-zeros "


def unavailable() -> str:
    """Why the fast kernels cannot serve here, "" if they can."""
    if jt.flags.use_cuda:
        return "they are for the CPU"
    return "" if runtime.onednn_paths() else "oneDNN 2.6 is missing"


@functools.cache
def operators():
    """The compiled kernels. Jittor's cache knows sources, flags and compiler: a change of any compiles anew."""
    include, lib = runtime.onednn_paths()
    return jt.compiler.compile_custom_ops(SOURCES, extra_flags=f'{FLAGS} -I"{include}" -L"{lib}" -ldnnl ')


def run(kernel: str, inputs: list, shapes: list, *numbers: float):
    """Run a kernel of cc/ on Vars → the list of its outputs, float32 Vars of these shapes."""
    return operators().detr_kernel(kernel, inputs, shapes, [float(n) for n in numbers])


def apply(function: type[jt.Function], *args):
    """`function.apply`; where no input has a gradient the output has none either, and nothing is kept for one."""
    if jt.flags.no_grad or all(a.is_stop_grad() for a in args if isinstance(a, jt.Var)):
        with jt.no_grad():
            return function()(*args)
    return function.apply(*args)


def is_kept(weight) -> bool:
    """Whether a layer's packed weights are kept: they change in every step of training otherwise."""
    return bool(jt.flags.no_grad or weight.is_stop_grad())
