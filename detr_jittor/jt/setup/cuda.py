"""Which CUDA Jittor is to use, if it can use the GPU at all, found without loading any of it.

Jittor 1.3.11 was made for CUDA 11 and 12 with cuDNN 8, and takes such a one as it is. CUDA 12 and 13 with cuDNN 9
serve through a folder of ours (toolkit.py) and patched sources (patches.py). With an nvcc that it cannot use,
`import jittor` fails or aborts the process, so it must be told beforehand which nvcc to take, or to take none.
"""

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from detr_jittor.jt.setup import toolkit
from detr_jittor.jt.setup.gpu import Gpu, find_gpu, major, output_of, unfit
from detr_jittor.jt.setup.toolkit import ARCH, Parts, cudnn_version

USUAL_PLACES = ("/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")  # where Jittor looks, after PATH
AS_IT_IS = (11, 12)  # the versions of CUDA that Jittor knows


@dataclass(frozen=True)
class Toolkit:
    """One CUDA installation, seen from its nvcc. `problem` is empty if Jittor can use it."""

    nvcc: str
    version: str = ""  # of CUDA
    cudnn: str = ""  # version of cuDNN
    source: str = toolkit.MACHINE  # who brought it
    problem: str = ""
    parts: Parts | None = None  # what is to be put together in a folder of ours; None: Jittor can take it as it is

    def nvcc_for(self, home: Path) -> str:
        """The nvcc that Jittor is shown, if its home is `home`."""
        return str(toolkit.folder(home, self.parts) / "bin" / "nvcc") if self.parts else self.nvcc


@dataclass(frozen=True)
class Cuda:
    """What there is for the GPU. `chosen` is for Jittor to take; None, to run on the CPU because of `problem`."""

    gpu: Gpu
    toolkits: list[Toolkit]  # that were looked at
    chosen: Toolkit | None = None
    problem: str = ""


def find_cuda(home: Path, every: bool = False) -> Cuda:
    """Look for a CUDA that Jittor can use, and take the first.

    Args:
        home: Jittor's home, where its own CUDA installer puts one.
        every: look at the others too, for whoever is to tell of them; each nvcc is asked for its version, which takes
            10 ms. Otherwise none is looked at after the first that serves, nor where there is no GPU.
    """
    gpu, toolkits, chosen = find_gpu(), [], None
    for nvcc in find_nvcc(home) if gpu.name or every else ():
        found = inspect(nvcc)
        if gpu.name and not found.problem:
            found = replace(found, problem=unfit(gpu, found.version))
        toolkits.append(found)
        if gpu.name and not found.problem:
            chosen = chosen or found
            if not every:
                break
    if not gpu.name:
        return Cuda(gpu, toolkits, problem="no GPU, or no NVIDIA driver for it")
    if "nvcc_path" in os.environ:  # Jittor obeys it
        return Cuda(gpu, toolkits, problem=f"nvcc_path={os.environ['nvcc_path']} is set")
    problem = "" if chosen else "; ".join(t.problem for t in toolkits) or "nvcc not found"
    return Cuda(gpu, toolkits, chosen, problem)


def find_nvcc(home: Path) -> list[str]:
    """Every nvcc: the one that Jittor's installer brought, those of wheels, and where Jittor looks, in its order."""
    own = sorted((home / ".cache" / "jittor" / "jtcuda").glob("*/bin/nvcc"), reverse=True)
    wheels = [nvcc for folder in toolkit.namespace() for nvcc in sorted(folder.glob("cu*/bin/nvcc"), reverse=True)]
    places = [*map(str, own), *map(str, wheels), shutil.which("nvcc"), *USUAL_PLACES]
    return list(dict.fromkeys(p for p in places if p and os.access(p, os.X_OK)))


def inspect(nvcc: str) -> Toolkit:
    """Check one CUDA as Jittor will use it: everything is found from where nvcc really lies."""
    match = re.search(r"release (\d+\.\d+)", output_of(nvcc, "--version"))
    if not match:
        return Toolkit(nvcc, problem=f"{nvcc} --version fails")
    version, number = match[1], major(match[1])
    source = toolkit.beside(nvcc)[0].source
    if number not in AS_IT_IS + toolkit.MAJORS:
        return Toolkit(nvcc, version, "", source, f"{nvcc} is of CUDA {version}, Jittor 1.3.11 is known to work with "
                                                  "11 and 12, and patched with 13")
    as_it_is = inspect_as_it_is(nvcc, version)
    if number not in toolkit.MAJORS or not as_it_is.problem:
        return as_it_is
    parts = toolkit.find(nvcc, number)
    if not parts.missing:
        return Toolkit(nvcc, version, parts.cudnn, source, parts=parts)
    missing = ", ".join(parts.missing).replace("cuDNN", "cuDNN 8 or 9" if number in AS_IT_IS else "cuDNN 9")
    return Toolkit(nvcc, version, "", source, f"{missing} not found for {nvcc} (CUDA {version})")


def inspect_as_it_is(nvcc: str, version: str) -> Toolkit:
    """Check a CUDA in the way Jittor itself looks for its parts."""
    root = Path(nvcc).resolve().parent.parent
    runtime = toolkit.SYSTEM[1] if nvcc == "/usr/bin/nvcc" else root / "lib64"
    if major(version) not in AS_IT_IS or not (runtime / "libcudart.so").is_file():
        return Toolkit(nvcc, version, problem=f"{runtime}/libcudart.so not found (for {nvcc})")
    folders = (root / "include", root / f"targets/{ARCH}-linux/include", toolkit.SYSTEM[0])
    cudnn = next((cudnn_version(folder) for folder in folders if (folder / "cudnn.h").is_file()), "")
    libraries = [root / "lib64", root / f"targets/{ARCH}-linux/lib", toolkit.SYSTEM[1], Path("/usr/lib")]
    if not cudnn.startswith("8.") or not any((p / "libcudnn.so").is_file() for p in libraries):
        return Toolkit(nvcc, version, cudnn, problem=f"cuDNN 8 not found for {nvcc} (found: {cudnn or 'none'})")
    return Toolkit(nvcc, version, cudnn)
