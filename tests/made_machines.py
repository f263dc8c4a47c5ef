"""Made-up machines for the tests of CUDA: scripts play nvcc and nvidia-smi, and empty files are libraries."""

from pathlib import Path

TABLE = "| NVIDIA-SMI {driver}   Driver Version: {driver}   CUDA Version: {cuda} |"


def script(path: Path, line: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def driver(bin_: Path, name: str = "NVIDIA H200", version: str = "580.65.06", cuda: str = "13.0",
           capability: str = "9.0", count: int = 1) -> None:
    """An nvidia-smi in the folder `bin_`, of `count` cards. Without a capability, one older than that question. What it
    is asked goes into `bin_`/asked, a line each."""
    query = "; ".join([f"echo '{name}, {version}, {capability}'"] * count) if capability else "exit 2"
    cards = "; ".join(f"echo 'GPU {i}: {name} (UUID: GPU-1234)'" for i in range(count))
    script(bin_ / "nvidia-smi", f"""echo "$1" >> {bin_}/asked
case "$1" in
-L) {cards} ;;
--query-gpu=name,driver_version,compute_cap) {query} ;;
--query*) exit 2 ;;
*) echo '{TABLE.format(driver=version, cuda=cuda)}' ;;
esac""")


def asked(bin_: Path) -> list[str]:
    """The options of each question that the driver was asked."""
    return (bin_ / "asked").read_text().splitlines()


def nvcc(path: Path, version: str) -> str:
    return script(path, f"echo 'Cuda compilation tools, release {version}, V{version}.1'")


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def cudnn(include: Path, lib: Path, version: str, suffix: str = "") -> None:
    files(include, "cudnn.h", "cudnn_graph.h")
    files(lib, f"libcudnn.so{suffix}", f"libcudnn_graph.so{suffix}")
    (include / "cudnn_version.h").write_text(
        f"#define CUDNN_MAJOR {version}\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 7\n")


def toolkit(root: Path, version: str = "12.2", cudart: bool = True, with_cudnn: str = "8",
            libraries: bool = True) -> str:
    """A CUDA installation below `root`, as NVIDIA's installer makes it; its nvcc."""
    number = version.partition(".")[0]
    files(root, "include/crt/host_config.h", "lib64/libdevice.a")
    if cudart:
        files(root, "include/cuda_runtime.h", "lib64/libcudart.so", f"lib64/libcudart.so.{number}")
    if libraries:
        files(root / "include", "cublas_v2.h", "cublas_api.h", "curand.h")
        files(root / "lib64", "libcublas.so", f"libcublas.so.{number}", f"libcublasLt.so.{number}", "libcurand.so",
              "libcurand.so.10")
    if with_cudnn:
        cudnn(root / "include", root / "lib64", with_cudnn)
        files(root / "lib64", f"libcudnn.so.{with_cudnn}")
    return nvcc(root / "bin" / "nvcc", version)


def wheels(site: Path, compiler: bool = True, version: str = "13.5", with_cudnn: str = "cu13") -> Path:
    """NVIDIA's wheels of CUDA 13 in an environment; what they unpack."""
    root = site / "nvidia" / "cu13"
    files(root / "include", "cuda_runtime.h", "crt/host_config.h", "cublas_v2.h", "cublas_api.h", "curand.h", "nvrtc.h")
    files(root / "lib", "libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libnvrtc.so.13")
    if compiler:
        nvcc(root / "bin" / "nvcc", version)
    if with_cudnn:
        cudnn(site / "nvidia" / "cudnn" / "include", site / "nvidia" / "cudnn" / "lib", "9", ".9")
        files(site / f"nvidia_cudnn_{with_cudnn}-9.28.dist-info", "RECORD")
        (site / f"nvidia_cudnn_{with_cudnn}-9.28.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: nvidia-cudnn-{with_cudnn}\nVersion: 9.28\n")
    return root
