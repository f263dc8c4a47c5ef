"""How many threads compute, which is one for each processor that is ours to use, and how they wait for each other."""

import ctypes
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path

from detr_jittor.twin import waiting

CGROUPS = Path("/sys/fs/cgroup")
LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE")  # of mpirun and torchrun: processes on this machine


def processors() -> int:
    """Those that this process may run on, and no more than its container's quota pays for."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), quota())))


def quota() -> float:
    """How many processors' time the control groups of this process allow; infinity without a limit."""
    found = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in read_groups().splitlines()):
        if not controllers:  # version 2: one tree
            found += [in_file(folder / "cpu.max") for folder in upwards(CGROUPS, path)]
        elif "cpu" in controllers.split(","):
            found += [in_files(folder) for folder in upwards(CGROUPS / "cpu", path)]
    return min(found)


def read_groups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


def upwards(root: Path, path: str) -> list[Path]:
    """The group's folder and all above it. In a container the path may begin outside of what is mounted."""
    place = root / path.lstrip("/")
    return [folder for folder in (place, *place.parents) if folder.is_relative_to(root)]


def in_file(file: Path) -> float:
    """`200000 100000`: time in each period, both in µs; `max 100000` without a limit"""
    try:
        time, period = file.read_text().split()
        return int(time) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def in_files(folder: Path) -> float:
    """The same in version 1; -1 without a limit"""
    try:
        time, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return time / period if time > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def share() -> int:
    """Threads for this process: the processors, shared with the others that mpirun or torchrun started here.

    mpirun may have bound each process to processors of its own; then all of them are this one's.
    """
    local = max((int(os.environ[n]) for n in LOCAL_SIZES if os.environ.get(n, "").isdigit()), default=1)
    bound = len(os.sched_getaffinity(0)) < (os.cpu_count() or 1)
    return processors() if bound else max(1, processors() // max(local, 1))


def count() -> int:
    """How many threads compute: what the user has set, else this process's share."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wanted) if wanted.isdigit() and int(wanted) else share()


def prepare() -> None:
    """Tell OpenMP before it is loaded, where it would not find the number by itself."""
    if count() != len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(count()))


def tell_openmp(number: int) -> None:
    for library in waiting.libraries():
        ctypes.CDLL(library).omp_set_num_threads(number)


def use(wanted: int, tell: Callable[[int], None] = tell_openmp) -> None:
    """Compute with so many threads from now on, 0: as many as before; and watch how they wait.

    To be called by a twin, when its libraries are loaded. Args: tell: the framework's own way to be told.
    """
    if wanted:
        os.environ["OMP_NUM_THREADS"] = str(wanted)  # of libraries and processes to come
        tell(wanted)
    watch()


@functools.cache
def watch() -> waiting.Watch | None:
    """One for the whole process, as long as it runs; none where nothing can be seen or the user has decided."""
    return waiting.Watch() if waiting.possible() and count() > 1 else None
