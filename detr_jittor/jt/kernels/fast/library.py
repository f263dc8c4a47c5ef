"""The C++ side of the fast kernels: compiled once into Jittor's cache; one Jittor operator runs them all by name."""

import functools
import hashlib
from pathlib import Path

from detr_jittor.jt.setup import runtime
from detr_jittor.jt.setup.runtime import jt

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
    flags = f'{FLAGS} -DDETR_SOURCES={digest(SOURCES)} -I"{include}" -L"{lib}" -ldnnl '
    return jt.compiler.compile_custom_ops(SOURCES, extra_flags=flags)


def digest(sources: list[str]) -> str:
    """TRAP(jittor): stale-headers. Its cache overlooks a header that is included after an #endif, and would link
    objects made with the old one: so all sources are among the flags, as one number."""
    return hashlib.sha256(b"\0".join(Path(source).read_bytes() for source in sources)).hexdigest()[:16]


def run(kernel: str, inputs: list, shapes: list, *numbers: float, dtype: str = "float32"):
    """Run a kernel of cc/ on Vars → the list of its outputs, Vars of these shapes."""
    return operators().detr_kernel(kernel, inputs, shapes, [float(n) for n in numbers], dtype)


def apply(function: type[jt.Function], *args):
    """`function.apply`; where no input has a gradient the output has none either, and nothing is kept for one."""
    if jt.flags.no_grad or all(a.is_stop_grad() for a in args if isinstance(a, jt.Var)):
        with jt.no_grad():
            return function()(*args)
    return function.apply(*args)


def is_kept(weight) -> bool:
    """Whether a layer's packed weights are kept: they change in every step of training otherwise."""
    return bool(jt.flags.no_grad or weight.is_stop_grad())
