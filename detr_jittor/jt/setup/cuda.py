"""Whether Jittor can use the GPU: driver, CUDA compiler, runtime library and cuDNN, found without loading any of them.

Jittor 1.3.11 was made for CUDA 11 and 12 with cuDNN 8. With an nvcc that it cannot use, `import jittor` fails or
aborts the process, so it must be told beforehand which nvcc to take, or to take none.
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
ARCH = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "aarch64"


@dataclass(frozen=True)
class Toolkit:
    """One CUDA installation, seen from its nvcc. `problem` is empty if Jittor can use it."""

    nvcc: str
    version: str = ""  # of CUDA
    cudnn: str = ""  # version of cuDNN
    problem: str = ""


@dataclass(frozen=True)
class Cuda:
    """What there is for the GPU. `nvcc` is the one for Jittor to take, "" to run on the CPU because of `problem`."""

    gpu: str  # the driver's name for the first GPU, "" if there is none
    toolkits: list[Toolkit]
    nvcc: str = ""
    problem: str = ""


def find_cuda(home: Path) -> Cuda:
    """Look for a CUDA that Jittor can use; `home` is Jittor's home, where its own CUDA installer puts one."""
    gpu = find_gpu()
    toolkits = [inspect(nvcc) for nvcc in find_nvcc(home)]
    if not gpu:
        return Cuda(gpu, toolkits, problem="no GPU, or no NVIDIA driver for it")
    good = [t for t in toolkits if not t.problem]
    if good:
        return Cuda(gpu, toolkits, nvcc=good[0].nvcc)
    return Cuda(gpu, toolkits, problem="; ".join(t.problem for t in toolkits) or "nvcc not found")


def find_gpu() -> str:
    """The driver's name for the first GPU, "" if the driver does not answer or the user hides every GPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    match = re.search(r"^GPU \d+: ([^(\n]+)", output_of("nvidia-smi", "-L"), re.MULTILINE)
    return match[1].strip() if match else ""


def find_nvcc(home: Path) -> list[str]:
    """Every nvcc in the places where Jittor looks, in its order."""
    own = sorted((home / ".cache" / "jittor" / "jtcuda").glob("*/bin/nvcc"), reverse=True)
    places = [*map(str, own), shutil.which("nvcc"), *USUAL_PLACES]
    return list(dict.fromkeys(p for p in places if p and os.access(p, os.X_OK)))


def inspect(nvcc: str) -> Toolkit:
    """Check one CUDA as Jittor will use it: everything is found from where nvcc really lies."""
    match = re.search(r"release (\d+)\.(\d+)", output_of(nvcc, "--version"))
    if not match:
        return Toolkit(nvcc, problem=f"{nvcc} --version fails")
    version = f"{match[1]}.{match[2]}"
    if int(match[1]) not in CUDA_MAJORS:
        return Toolkit(nvcc, version, problem=f"{nvcc} is of CUDA {version}, Jittor 1.3.11 knows 11 and 12")
    root = Path(nvcc).resolve().parent.parent
    runtime = Path(f"/usr/lib/{ARCH}-linux-gnu") if nvcc == "/usr/bin/nvcc" else root / "lib64"
    if not (runtime / "libcudart.so").is_file():
        return Toolkit(nvcc, version, problem=f"{runtime}/libcudart.so not found (for {nvcc})")
    cudnn = cudnn_version(root)
    libraries = [root / "lib64", root / f"targets/{ARCH}-linux/lib", Path(f"/usr/lib/{ARCH}-linux-gnu"),
                 Path("/usr/lib")]
    if not cudnn.startswith(f"{CUDNN_MAJOR}.") or not any((p / "libcudnn.so").is_file() for p in libraries):
        return Toolkit(nvcc, version, cudnn, f"cuDNN {CUDNN_MAJOR} not found for {nvcc} (found: {cudnn or 'none'})")
    return Toolkit(nvcc, version, cudnn)


def cudnn_version(root: Path) -> str:
    """The version of the cuDNN headers that Jittor would compile against, "" if there are none."""
    for folder in (root / "include", root / f"targets/{ARCH}-linux/include", Path("/usr/include")):
        if (folder / "cudnn.h").is_file():
            header = folder / "cudnn_version.h"
            text = header.read_text(errors="replace") if header.is_file() else ""
            numbers = dict(re.findall(r"#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", text))
            return ".".join(numbers.get(n, "0") for n in ("MAJOR", "MINOR", "PATCHLEVEL"))
    return ""


def output_of(*command: str) -> str:
    """What a command prints, "" if it cannot be run or fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout if run.returncode == 0 else ""
