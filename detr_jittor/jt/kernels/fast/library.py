"""The C++ side of the fast kernels: compiled once into Jittor's cache; one Jittor operator runs them all by name."""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from detr_jittor.jt.setup import kept, runtime
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin import processor

# The largest first: two cores then end with small ones.
SOURCES = [str(path) for path in sorted((Path(__file__).parent / "cc").iterdir(), key=lambda p: (-p.stat().st_size, p))
           if path.suffix in (".h", ".cc")]
# Not -ffast-math: a loss or gradient that is not finite must be seen.
FLAGS = " -fopenmp -ftree-vectorize -fno-math-errno -fno-trapping-math -fno-signed-zeros "

COMMON = "detr_common.h"


def unavailable() -> str:
    """Why the fast kernels cannot serve here, "" if they can."""
    if jt.flags.use_cuda:
        return "they are for the CPU"
    if processor.lacks_avx2():
        return "the processor lacks AVX2"
    return "" if runtime.onednn_paths() else "oneDNN 2.6 is missing"


@functools.cache
def operators():
    return compiled(SOURCES, kernel_flags())


def kernel_flags() -> str:
    include, lib = runtime.onednn_paths()
    return f'{FLAGS} -I"{include}" -L"{lib}" -ldnnl '


def compiled(sources: list[str], flags: str):
    """The operators of these sources. Jittor's cache knows flags and compiler, the folder's name the sources.

    TRAP(jittor): stale-headers. Its cache overlooks a header that is included after an #endif, and would link objects
    made with the old one: so sources with another digest are compiled in another folder.
    """
    compiler, cache = jt.compiler, jt.compiler.cache_path
    name = f"detr_kernels_{digest(sources)}"  # of the module too: Python would find an older one of the same name
    place = Path(jt.flags.cache_path, name)
    try:
        compiler.cache_path = str(place)
        (place / "custom_ops").mkdir(parents=True, exist_ok=True)
        copies = copied(sources, place)
        return compiler.compile_custom_ops(copies, extra_flags=with_common(place, flags), gen_name_=name)
    finally:
        compiler.cache_path = cache
        (place / f"{COMMON}.gch").unlink(missing_ok=True)  # 50 MB


def with_common(place: Path, flags: str) -> str:
    """The flags with which the sources in `place` are compiled, those too that have the header before each of them. If
    there is no library of them yet, the header is compiled first."""
    header = place / COMMON
    if not header.exists():  # sources of a test
        return flags
    if jt.flags.cc_type == "g++" and not [*place.glob("custom_ops/*.so")]:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):  # then each of them reads its text
            kept.keep_compiled(header, jt.flags.cc_path, f"{flags} {jt.compiler.cc_flags} {jt.compiler.opt_flags}")
    return f'{flags} -include"{header}" '


def copied(sources: list[str], place: Path) -> list[str]:
    """The sources in `place`, from where they are compiled: an installation elsewhere with the same ones finds them
    compiled, and one of another version does not overwrite them."""
    place.mkdir(parents=True, exist_ok=True)
    for source in sources:
        target = place / Path(source).name
        if not target.exists():
            part = target.with_suffix(f".{os.getpid()}")  # another process may be at the same
            shutil.copyfile(source, part)
            os.replace(part, target)
    return [str(place / Path(source).name) for source in sources]


def digest(sources: list[str]) -> str:
    return hashlib.sha256(b"\0".join(Path(source).read_bytes() for source in sources)).hexdigest()[:16]


def run(kernel: str, inputs: list, shapes: list, *numbers: float, dtype: str = "float32"):
    """Run a kernel of cc/ on Vars → the list of its outputs, Vars of these shapes."""
    return operators().detr_kernel(kernel, inputs, shapes, [float(n) for n in numbers], dtype)


def reference_primitives() -> int:
    """How often oneDNN had only its reference code for a shape, which is right and a hundred times slower."""
    return int(run("reference_primitives", [jt.zeros(1)], [(1,)])[0].item())


def apply(function: type[jt.Function], *args):
    """`function.apply`; where no input has a gradient the output has none either, and nothing is kept for one."""
    if jt.flags.no_grad or all(a.is_stop_grad() for a in args if isinstance(a, jt.Var)):
        with jt.no_grad():
            return function()(*args)
    return function.apply(*args)


def is_kept(weight) -> bool:
    """Whether a layer's packed weights are kept: they change in every step of training otherwise."""
    return bool(jt.flags.no_grad or weight.is_stop_grad())
