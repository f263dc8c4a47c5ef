"""One CUDA in a folder of our own, put together from where its parts lie: pip's wheels, this machine, or both.

Jittor looks for everything beside nvcc: headers in `include/`, libraries in `lib64/` under names without a version. The
wheels have neither that folder nor those names, and cuDNN is seldom in CUDA's own folder. So ours has links to what is
installed, and an `nvcc` that calls the one that was found. Nothing is copied, and nothing that is installed changes.
"""

import hashlib
import importlib.machinery
import os
import platform
import re
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from detr_jittor.jt.setup.folders import appearing

ARCH = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "aarch64"
SYSTEM = (Path("/usr/include"), Path(f"/usr/lib/{ARCH}-linux-gnu"))  # where Debian's packages put headers and libraries
WHEELS, MACHINE = "pip's wheels", "this machine"
# What Jittor links with: the beginning of the names of its headers and libraries, a header of it, its name for a reader
PARTS = (("cudart", "cuda_runtime.h", "CUDA's runtime"), ("cublas", "cublas_v2.h", "cuBLAS"),
         ("curand", "curand.h", "cuRAND"), ("cudnn", "cudnn.h", "cuDNN"))
MAJORS, CUDNN = (12, 13), "9"  # the versions of CUDA and of cuDNN that serve so


@dataclass(frozen=True)
class Place:
    """A folder of headers, and that of the libraries which belong to them."""

    include: Path
    lib: Path
    source: str = MACHINE


@dataclass(frozen=True)
class Parts:
    """What is put together."""

    nvcc: str  # the one that was found
    links: tuple[tuple[str, str], ...]  # (a path in our folder, where it leads to)
    cudnn: str  # its version
    cudnn_source: str
    missing: tuple[str, ...] = ()  # what was not found; then there are no links


def find(nvcc: str, major: int) -> Parts:
    """Where the parts are that go with an nvcc of CUDA `major`: beside it, in wheels, or in the system's folders.

    The runtime is the compiler's own, since the headers of both must be of one version; of the others each is taken
    whole from the first place that has it.
    """
    own, others = beside(nvcc), wheels(major)
    found = {}
    for stem, header, name in PARTS:
        places = own if stem == "cudart" else [*own, *others, Place(*SYSTEM)]
        found[name] = next((p for p in places if has(p, stem, header, major)), None)
    missing = tuple(name for name, place in found.items() if place is None)
    if missing:
        return Parts(nvcc, (), "", "", missing)
    links = {}
    runtime, *_, cudnn = found.values()
    if runtime.include != SYSTEM[0]:  # which every compiler searches by itself
        links |= {f"include/{entry.name}": str(entry) for entry in sorted(runtime.include.iterdir())}
    for (stem, _, _), place in zip(PARTS, found.values(), strict=True):
        links |= {f"include/{path.name}": str(path) for path in sorted(place.include.glob(f"{stem}*.h"))}
        links |= libraries(place, stem)
    # cuDNN and cuBLAS load it by themselves where they compile kernels
    links |= next(filter(None, (libraries(p, "nvrtc") for p in [*own, *others])), {})
    return Parts(nvcc, tuple(sorted(links.items())), cudnn_version(cudnn.include), cudnn.source)


def beside(nvcc: str) -> list[Place]:
    """The places of the toolkit that an nvcc belongs to, from where it really lies."""
    root = Path(nvcc).resolve().parents[1]
    target = root / f"targets/{ARCH}-linux"
    source = WHEELS if any(root.is_relative_to(folder) for folder in namespace()) else MACHINE
    pairs = [(root / "include", root / "lib64"), (root / "include", root / "lib"), (target / "include", target / "lib")]
    if root == Path("/usr"):
        pairs = [SYSTEM]
    return [Place(include, lib, source) for include, lib in pairs]


def wheels(major: int) -> list[Place]:
    """The places of NVIDIA's wheels for CUDA `major` in this environment, PyTorch's too. Those for CUDA 13 share one
    folder, the older ones have one each, and cuDNN has the same for every CUDA, so that only pip knows for which."""
    names = [f"cu{major}"] if major >= 13 else ["cuda_runtime", "cublas", "curand"]
    try:
        metadata.version(f"nvidia-cudnn-cu{major}")
        names.append("cudnn")
    except metadata.PackageNotFoundError:
        pass
    folders = [folder / name for folder in namespace() for name in names]
    return [Place(folder / "include", folder / "lib", WHEELS) for folder in folders]


def namespace() -> list[Path]:
    """The folders `nvidia` of this environment, which all of NVIDIA's wheels share."""
    spec = importlib.machinery.PathFinder.find_spec("nvidia")
    return [Path(path).resolve() for path in spec.submodule_search_locations or ()] if spec else []


def has(place: Place, stem: str, header: str, major: int) -> bool:
    """Whether a place has a part whole, and for this CUDA as far as the names tell."""
    if not (place.include / header).is_file():
        return False
    if stem == "cudnn" and not cudnn_version(place.include).startswith(f"{CUDNN}."):
        return False
    wanted = {"cudart": major, "cublas": major, "cudnn": CUDNN}.get(stem, "*")
    return any(place.lib.glob(f"lib{stem}.so.{wanted}"))


def libraries(place: Place, stem: str) -> dict[str, str]:
    """Links to the libraries whose names begin so; each is there under its name without a version too."""
    found = {path.name: str(path) for path in sorted(place.lib.glob(f"lib{stem}*.so*"))}
    plain = {name.partition(".so")[0] + ".so": path for name, path in found.items()}
    return {f"lib64/{name}": path for name, path in (plain | found).items()}


def cudnn_version(include: Path) -> str:
    """The version that the headers of cuDNN in a folder name, "" if there are none."""
    try:
        text = (include / "cudnn_version.h").read_text(errors="replace")
    except OSError:
        return ""
    numbers = dict(re.findall(r"#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", text))
    return ".".join(numbers.get(n, "0") for n in ("MAJOR", "MINOR", "PATCHLEVEL"))


def folder(home: Path, parts: Parts) -> Path:
    """Where it lies if Jittor's home is `home`. Other parts make another folder; none is ever changed."""
    key = hashlib.sha256(repr((parts.nvcc, parts.links)).encode()).hexdigest()[:12]
    return home / ".cache" / "jittor" / "cuda" / key


def place(home: Path, parts: Parts) -> Path:
    """Make the folder unless it is there; the path of its nvcc. Errors: OSError if the disk is full."""
    target = folder(home, parts)
    if not target.is_dir():
        with appearing(target) as new:
            for name in ("bin", "include", "lib64"):
                (new / name).mkdir()
            for name, path in parts.links:
                os.symlink(path, new / name)
            # no link: Jittor, and nvcc itself, look for the rest where the file really lies
            (new / "bin" / "nvcc").write_text(f'#!/bin/sh\nexec {shlex.quote(parts.nvcc)} "$@"\n')
            (new / "bin" / "nvcc").chmod(0o755)
    return target / "bin" / "nvcc"
