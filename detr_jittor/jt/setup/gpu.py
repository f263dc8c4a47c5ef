"""The graphics card and its driver, as `nvidia-smi` tells of them. Nothing is loaded."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PCI = Path("/sys/bus/pci/devices")
# The first cards that a CUDA compiles for. https://docs.nvidia.com/cuda/cuda-toolkit-release-notes: 13 left Volta
FIRST_CARDS = {13: "7.5"}
# The newest CUDA that can be used here, and the first driver that knows it.
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
NEWEST_CUDA, NEWEST_DRIVER = "13", 580


@dataclass(frozen=True)
class Gpu:
    """The first card; all empty if no driver answers, or the user hides every card."""

    name: str = ""
    driver: str = ""  # its version
    cuda: str = ""  # the newest CUDA that the driver knows, as far as it matters here
    capability: str = ""  # which generation the card is of, as CUDA counts them
    count: int = 1  # how many cards there are


def find_gpu() -> Gpu:
    """Ask the driver: once, unless it is an old one, which may know another CUDA than its number says and may leave out
    something. What it does not tell stays empty."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not shutil.which("nvidia-smi"):
        return Gpu()
    answer = output_of("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
    known = re.match(r"(.+), (\d[\d.]*), (\d+\.\d+)?", answer)
    if known and major(known[2]) >= NEWEST_DRIVER:
        return Gpu(known[1], known[2], NEWEST_CUDA, known[3] or "", len(answer.splitlines()))
    cards = answer if known else output_of("nvidia-smi", "-L")
    name = known or re.search(r"^GPU \d+: ([^(\n]+)", cards, re.MULTILINE)
    if not name:
        return Gpu()
    # only the table tells which CUDA that is; NVIDIA's package for forward compatibility makes it a newer one
    table = output_of("nvidia-smi")
    driver, cuda = (re.search(pattern, table) for pattern in (r"Driver Version: *([\d.]+)",
                                                              r"CUDA(?: UMD)? Version: *(\d+\.\d+)"))
    return Gpu(name[1].strip(), *(match[1] if match else "" for match in (driver, cuda)), (known and known[3]) or "",
               len(cards.splitlines()))


def card_of_process(gpu: Gpu, local_rank: int) -> str:
    """Which of the cards that may be used, as CUDA_VISIBLE_DEVICES has them, is that of a process of this machine: each
    has another one, and where there are fewer cards than processes some share one."""
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpu.count)))).split(",")
    return cards[local_rank % len(cards)].strip()


def unfit(gpu: Gpu, cuda: str) -> str:
    """Why the driver or the card cannot run what CUDA of this version compiles, "" if they can or do not tell."""
    if gpu.cuda and major(gpu.cuda) < major(cuda):
        return f"the driver {gpu.driver} is too old for CUDA {cuda}: it knows CUDA up to {gpu.cuda}"
    first = FIRST_CARDS.get(major(cuda))
    if gpu.capability and first and float(gpu.capability) < float(first):
        return f"CUDA {cuda} compiles for cards of generation {first} or later, and {gpu.name} is of {gpu.capability}"
    return ""


def major(version: str) -> int:
    return int(version.partition(".")[0])


def has_card() -> bool:
    """Whether there is a graphics card of NVIDIA in this machine, driver or not."""
    try:
        return any((device / "vendor").read_text().strip() == "0x10de" and
                   (device / "class").read_text().startswith("0x03") for device in PCI.iterdir())
    except OSError:
        return False


def output_of(*command: str) -> str:
    """What a command prints, "" if it cannot be run or fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout if run.returncode == 0 else ""
