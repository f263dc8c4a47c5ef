"""The CUDA side of the kernels: Jittor's code operator compiles the source that a kernel stands in, when it is first
used, and hands it the memory of the Vars."""

import functools
from pathlib import Path

from detr_jittor.jt.kernels.fast.library import copied, digest
from detr_jittor.jt.setup.runtime import jt

SOURCES = sorted(str(path) for path in (Path(__file__).parent / "cu").iterdir())


@functools.cache
def place() -> Path:
    """Where the sources are compiled. The folder's name knows them, and with it the operators whose code names it."""
    folder = Path(jt.flags.cache_path, f"detr_cuda_{digest(SOURCES)}")
    copied(SOURCES, folder)
    return folder


def run(source: str, kernel: str, inputs: list, shapes: list, *numbers: float, dtype: str = "float32") -> list:
    """Run a kernel of cu/`source`.cu on Vars → the list of its outputs, Vars of these shapes."""
    data = {f"n{i}": float(n) for i, n in enumerate(numbers)}
    named = ", ".join(f'data["{name}"]' for name in data)
    code = f"{{ detr::Call call(_inputs, _outputs, {{{named}}}); detr::{kernel}(call); }}"
    # Both by their full names: Jittor looks for what a source includes, and not beside it.
    header = f'#include "{place()}/kernel.h"\n#include "{place()}/{source}.cu"'
    return jt.code([tuple(s) for s in shapes], [dtype] * len(shapes), inputs, data=data, **compiled(header, code))


def compiled(header: str, code: str) -> dict[str, str]:
    """What the code operator is told to compile: for the card alone."""
    return {"cuda_header": header, "cuda_src": code}
