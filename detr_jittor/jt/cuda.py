"""Whether Jittor can use the GPU: driver, CUDA compiler, runtime library and cuDNN, found without loading any of them.

Jittor 1.3.11 was made for CUDA 11 and 12 with cuDNN 8. With an nvcc that it cannot use, `import jittor` fails or
aborts the process, so it must be told beforehand to leave nvcc alone.
"""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

USUAL_PLACES = ("/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")  # where Jittor looks, after PATH
CUDA_MAJORS = (11, 12)
CUDNN_MAJOR = 8


@dataclass(frozen=True)
class Cuda:
    """What was found. `problem` is empty if Jittor can use it; `driver` says whether there is a GPU at all."""

    nvcc: str = ""
    version: str = ""
    driver: bool = False
    problem: str = ""
    mend: str = ""


def find_cuda(home: Path) -> Cuda:
    """Look for a CUDA that Jittor can use; `home` is Jittor's home, where its own CUDA installer puts one."""
    driver = has_driver()
    nvcc = find_nvcc(home)
    if not driver:
        return Cuda(nvcc, problem="no NVIDIA driver", mend="Nothing to do on a machine without a GPU; else install "
                                                           "the NVIDIA driver.")
    install = "Install CUDA 12.2 with cuDNN 8, or let Jittor do it: python -m jittor_utils.install_cuda"
    if not nvcc:
        return Cuda(driver=True, problem="no nvcc", mend=install)
    version = output_of(nvcc, "--version")
    match = re.search(r"release (\d+)\.(\d+)", version)
    if not match:
        return Cuda(nvcc, driver=True, problem=f"{nvcc} --version fails", mend=install)
    version = f"{match[1]}.{match[2]}"
    if int(match[1]) not in CUDA_MAJORS:
        return Cuda(nvcc, version, True, f"CUDA {version} (Jittor 1.3.11 knows 11 and 12)", install)
    for library in (f"libcudnn.so.{CUDNN_MAJOR}", "libcudart.so"):
        if not any((place / library).is_file() for place in library_folders(nvcc)):
            return Cuda(nvcc, version, True, f"{library} not found beside {nvcc}", install)
    return Cuda(nvcc, version, True)


def find_nvcc(home: Path) -> str:
    """The nvcc that Jittor would take, "" if there is none."""
    own = sorted((home / ".cache" / "jittor" / "jtcuda").glob("*/bin/nvcc"))
    places = [*map(str, own), shutil.which("nvcc"), *USUAL_PLACES]
    return next((p for p in places if p and os.access(p, os.X_OK)), "")


def has_driver() -> bool:
    """Whether the driver answers and has at least one GPU."""
    return "GPU " in output_of("nvidia-smi", "-L")


def library_folders(nvcc: str) -> list[Path]:
    """Where Jittor looks for CUDA's and cuDNN's libraries."""
    arch = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "aarch64"
    roots = {Path(nvcc).parent.parent, Path(nvcc).resolve().parent.parent}
    inside = [root / part for root in roots for part in ("lib64", "lib", f"targets/{arch}-linux/lib")]
    return [*inside, Path(f"/usr/lib/{arch}-linux-gnu"), Path("/usr/lib")]


def output_of(*command: str) -> str:
    """What a command prints, "" if it cannot be run or fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout if run.returncode == 0 else ""
