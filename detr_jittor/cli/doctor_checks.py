"""The checks of `detr-jittor doctor`: what this machine has, whether Jittor can use it, and the fix if not.

Nothing here needs Jittor, torch or even NumPy to be installed.
"""

import ctypes.util
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup import machine, onednn, patches
from detr_jittor.jt.setup.cuda import Toolkit, find_cuda
from detr_jittor.jt.setup.gpu import Gpu, has_card, major, output_of
from detr_jittor.twin import processor, threads, waiting

OK, WARNING, FAILED = "ok", "warning", "failed"
CACHE_NEEDS = 300  # MB; Jittor's core takes 130, oneDNN 40, DETR's operators some dozens
CUTLASS_MD5 = "999ecb7e217e40c497bc3d0ded6643f0"  # the archive that Jittor 1.3.11 asks for
CUTLASS_URL = "https://cg.cs.tsinghua.edu.cn/jittor/assets/cutlass.zip"
INFLUENCE = ("JITTOR_HOME", "nvcc_path", "cc_path", "cc_flags", "cache_name", "python_config_path", "use_mkl",
             "use_mpi", "use_cutt", "use_cutlass", "use_nccl", "debug", "FIX_TORCH_ERROR", "DETR_ISA",
             "ONEDNN_MAX_CPU_ISA", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    subject: str
    status: str  # "ok", "warning" or "failed"
    found: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """All findings, the slowest check (Jittor itself) last."""
    for subject, check in CHECKS.items():
        try:
            yield from check(subject)
        except DetrError as error:
            yield Finding(subject, FAILED, error.what, error.fix)
        except (OSError, ImportError) as error:
            yield Finding(subject, FAILED, f"{type(error).__name__}: {error}", "Run: pip install detr-jittor")


def python(subject: str) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 10) <= sys.version_info[:2] <= (3, 14) and sys.maxsize > 2**32
    yield Finding(subject, OK if good else FAILED, f"{version} at {sys.executable}",
                  "" if good else "Use a 64-bit Python 3.10 to 3.14.")


def headers(subject: str) -> Iterator[Finding]:
    yield Finding(subject, OK, f"{machine.find_python_config()}")


def numpy(subject: str) -> Iterator[Finding]:
    compiler = machine.compiler_version(shutil.which(os.environ.get("cc_path") or "g++") or "")
    changes = patches.needed(machine.check_numpy(), compiler)
    files = patches.patched(changes, patches.installed_folder())
    yield Finding(subject, OK, metadata.version("numpy") + (
        f"; for it, Python {sys.version_info[0]}.{sys.version_info[1]} and this C++ compiler, Jittor "
        f"{metadata.version('jittor')} is patched ({len(files)} files, in the cache)" if changes else ""))


def compiler(subject: str) -> Iterator[Finding]:
    """Compile a few lines with OpenMP, as Jittor will."""
    path = machine.find_compiler()
    version = machine.compiler_version(path)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.cc")
        source.write_text("#include <omp.h>\n#include <string>\nstd::string f() {\n"
                          "  return std::to_string(omp_get_max_threads());\n}\n")
        command = [path, "-std=c++14", "-fPIC", "-shared", "-fopenmp", str(source), "-o", str(Path(folder, "trial.so"))]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if run.returncode == 0:
        yield Finding(subject, OK, f"{version} at {path}")
    else:
        lines = run.stderr.strip().splitlines() or ["no message"]
        what = next((line for line in lines if "error" in line), lines[-1])
        yield Finding(subject, FAILED, f"{path} cannot compile a program with OpenMP: {what}",
                      f"Run: sudo apt install g++ {openmp_package()}")


def openmp_package() -> str:
    return "libomp-dev" if "clang" in os.environ.get("cc_path", "") else "libgomp1"


def openmp(subject: str) -> Iterator[Finding]:
    """Jittor loads the compiler's OpenMP library by name before anything else."""
    name = "omp" if "clang" in os.environ.get("cc_path", "") else "gomp"
    found = ctypes.util.find_library(name)
    yield Finding(subject, OK if found else FAILED, found or f"lib{name} not found",
                  "" if found else f"Run: sudo apt install {openmp_package()}; in conda: conda install -c conda-forge "
                                   f"{'llvm-openmp' if name == 'omp' else 'libgomp'}")


def libstdcxx(subject: str) -> Iterator[Finding]:
    """conda brings a libstdc++ of its own; what a newer g++ compiles then fails with "GLIBCXX_3.4.… not found"."""
    code = "import ctypes; ctypes.CDLL('libstdc++.so.6'); print(open('/proc/self/maps').read())"
    loaded = re.search(r"/\S*libstdc\+\+\.so\S*", output_of(sys.executable, "-c", code))
    linked = Path(output_of(machine.find_compiler(), "-print-file-name=libstdc++.so.6").strip())
    if not loaded or not linked.is_file():
        yield Finding(subject, WARNING, "libstdc++.so.6 not found", "Run: sudo apt install libstdc++6")
        return
    have, need = newest_glibcxx(Path(loaded[0])), newest_glibcxx(linked)
    found = f"GLIBCXX_3.4.{have} in {loaded[0]}"
    if have >= need:
        yield Finding(subject, OK, found)
    else:
        yield Finding(subject, WARNING, f"{found}, but g++ links with GLIBCXX_3.4.{need}",
                      'In conda: conda install -c conda-forge "libstdcxx-ng>=13"; else remove the older library from '
                      "LD_LIBRARY_PATH.")


def newest_glibcxx(library: Path) -> int:
    """x of the highest GLIBCXX_3.4.x that a libstdc++ offers."""
    return max((int(n) for n in re.findall(rb"GLIBCXX_3\.4\.(\d+)", library.read_bytes())), default=0)


def one_dnn(subject: str) -> Iterator[Finding]:
    if not machine.needs_onednn():
        yield Finding(subject, WARNING, "no wheel for this machine", "Jittor will download its own oneDNN.")
        return
    place = onednn.folder(machine.choose_home()[0])
    if onednn.is_complete(place):
        yield Finding(subject, OK, f"2.6 in {place}")
    else:
        yield Finding(subject, OK, f"2.6, will be copied from {onednn.wheel_files()[1]} to {place}")
    if os.environ.get("use_mkl", "1") != "1":
        yield Finding(subject, WARNING, "use_mkl is set: very slow convolutions", "Run: unset use_mkl")


def gpu(subject: str) -> Iterator[Finding]:
    """The card and its driver, each CUDA with its cuDNN, and which of them Jittor will be shown, and why."""
    cuda = find_cuda(machine.choose_home()[0], every=True)
    card, chosen = cuda.gpu, cuda.chosen
    known = f"{card.name} (driver {card.driver or 'unknown'}, CUDA up to {card.cuda or 'unknown'})"
    if not card.name and has_card() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        yield Finding(subject, WARNING, "an NVIDIA card, but its driver does not answer: Jittor runs on the CPU",
                      "Install NVIDIA's driver, 580 or later for CUDA 13; in a container, pass the card on.")
    elif not card.name:
        yield Finding(subject, OK, "none, or no NVIDIA driver: Jittor runs on the CPU")
    elif chosen:
        yield Finding(subject, OK, f"{known}, through CUDA {chosen.version} at {chosen.nvcc}{patched_for(chosen)}")
    else:
        yield Finding(subject, WARNING, f"{known}, but no CUDA here is used: {cuda.problem}", install_cuda(card))
    for toolkit in cuda.toolkits:
        if toolkit.problem:
            yield Finding("CUDA", WARNING if card.name else OK, f"{toolkit.problem}: hidden from Jittor",
                          install_cuda(card) if card.name else "")
        else:
            cudnn = f"{toolkit.cudnn} of {toolkit.parts.cudnn_source}" if toolkit.parts else toolkit.cudnn
            found = f"{toolkit.version} of {toolkit.source} with cuDNN {cudnn} at {toolkit.nvcc}"
            why = ": taken, as the first that serves" if toolkit == chosen else ": another comes before it"
            yield Finding("CUDA", OK, found + (why if chosen else ""))


def patched_for(toolkit: Toolkit) -> str:
    """What is done so that Jittor can use this CUDA."""
    changes = patches.needed("", "", cuda=toolkit.version, cudnn=toolkit.cudnn)
    files = patches.patched(changes, patches.installed_folder())
    done = "put together in the cache, with" if toolkit.parts else "with"
    return f"; {done} {len(files)} files of Jittor patched. Such a one has never run on a card"


def install_cuda(card: Gpu) -> str:
    if card.cuda and major(card.cuda) < 13:
        return "Install NVIDIA's driver 580 or later, or CUDA 12.2 with cuDNN 8: python -m jittor_utils.install_cuda"
    return 'Run: pip install "detr-jittor[cuda13]"; or: python -m jittor_utils.install_cuda, for CUDA 12.2 with cuDNN 8'


def cutlass(subject: str) -> Iterator[Finding]:
    """Where Jittor's download was cut off, every later start fails with a wrong MD5."""
    folder = machine.choose_home()[0] / ".cache" / "jittor" / "cutlass"
    archive, unpacked = folder / "cutlass.zip", folder / "cutlass" / "include" / "cutlass" / "cutlass.h"
    wanted = os.environ.get("use_cutlass") == "1"
    if not archive.is_file():
        yield Finding(subject, OK, "will be downloaded (use_cutlass=1)" if wanted else "not used (use_cutlass=0)")
    elif hashlib.md5(archive.read_bytes()).hexdigest() == CUTLASS_MD5:
        yield Finding(subject, OK, str(unpacked.parents[2]) if unpacked.is_file() else f"{archive}, not yet unpacked")
    else:
        yield Finding(subject, FAILED if wanted else WARNING, f"{archive} has a wrong MD5: its download was cut off",
                      f"Run: rm -r {folder}. DETR does not need it (use_cutlass=0). To have it all the same, fetch "
                      f"{CUTLASS_URL} by browser (MD5 {CUTLASS_MD5}), put it there and unpack it beside itself.")


def home(subject: str) -> Iterator[Finding]:
    place, notes = machine.choose_home()
    if notes:
        yield Finding(subject, WARNING, notes[0], "Set JITTOR_HOME to a folder that can be written, or fix what is "
                                                  "named.")
    else:
        yield Finding(subject, OK, str(place / ".cache" / "jittor"))


def disk(subject: str) -> Iterator[Finding]:
    place = machine.choose_home()[0]
    free = shutil.disk_usage(place).free // 2**20
    status = OK if free > 3 * CACHE_NEEDS else WARNING if free > CACHE_NEEDS else FAILED
    yield Finding(subject, status, f"{free} MB free in {place}",
                  "" if status == OK else f"Jittor's cache needs {CACHE_NEEDS} MB. Free some, or set JITTOR_HOME to a "
                                          "folder on another disk.")


def cpu(subject: str) -> Iterator[Finding]:
    slow = machine.needs_onednn() and processor.lacks_avx2()
    found = f"{processor.name()}, {processor.instruction_set() or 'no instruction set that we know'}"
    yield Finding(subject, WARNING if slow else OK, found,
                  "The plain operators serve, which are slow; an x86-64 CPU of 2013 or later has AVX2." if slow else "")


def computing_threads(subject: str) -> Iterator[Finding]:
    allowed, quota = len(os.sched_getaffinity(0)), threads.quota()
    why = [f"{os.cpu_count()} processors"]
    if allowed < (os.cpu_count() or 1):
        why.append(f"{allowed} for this process")
    if quota < allowed:
        why.append(f"a quota of {quota:g}")
    if os.environ.get("OMP_NUM_THREADS"):
        why.append(f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}")
    waits = "asleep when others compute too" if waiting.possible() else "as the environment says"
    yield Finding(subject, OK, f"{threads.count()} ({', '.join(why)}); they wait for each other {waits}")


def torch(subject: str) -> Iterator[Finding]:
    try:
        yield Finding(subject, OK, f"{metadata.version('torch')}; in a program that uses both, import jittor first")
    except metadata.PackageNotFoundError:
        yield Finding(subject, OK, 'not installed; only the PyTorch twin needs it (pip install "detr-jittor[pytorch]")')


def variables(subject: str) -> Iterator[Finding]:
    """What the user has set himself stays as it is, so it belongs into the report."""
    mine = [f"{name}={os.environ[name]}" for name in INFLUENCE if name in os.environ]
    yield Finding(subject, WARNING if mine else OK, ", ".join(mine) or "none that change Jittor",
                  f"If Jittor does not start: unset {' '.join(m.split('=')[0] for m in mine)}" if mine else "")


def jittor(subject: str) -> Iterator[Finding]:
    """Start Jittor in a process of its own and let it compute; it may abort, or compile for minutes at first."""
    run = subprocess.run([sys.executable, "-m", "detr_jittor.jt.setup.trial"], stdout=subprocess.PIPE, text=True,
                         env=os.environ | {"PYTHONPATH": package_path()})
    try:
        result = json.loads(run.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        yield Finding(subject, FAILED, f"its process died (status {run.returncode}); the lines above say where",
                      "Mend what failed above; if nothing did, remove Jittor's cache (~/.cache/jittor/jt*) and repeat.")
        return
    if "problem" in result:
        yield Finding(subject, FAILED, result["problem"], known_fix(result["problem"]) or result["fix"])
    elif not result["right"]:
        yield Finding(subject, FAILED, f"{result['version']} computes wrongly (relative error {result['error']:.1g})",
                      f"Remove its cache ({result['cache']}/jt*) and repeat; check numpy and the compiler above.")
    else:
        by = f", by these kernels: {result['kernels']}" if result["kernels"] else ""
        yield Finding(subject, OK, f"{result['version']} starts and computes rightly on the {result['device']}{by}")


def package_path() -> str:
    """PYTHONPATH with which a child process finds this very package."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))


def known_fix(problem: str) -> str:
    """The fix for what Jittor's own messages say."""
    fixes = {
        "GLIBCXX": 'Run: conda install -c conda-forge "libstdcxx-ng>=13"',
        "No space left": "Free some disk, or set JITTOR_HOME to a folder on another disk.",
        "openmp library not found": f"Run: sudo apt install {openmp_package()}",
        "No module named": "Run: pip install detr-jittor",
        "urlopen error": "Jittor wants to download something: unset the variables that are listed above.",
        # the compiler's own words, which came before
        "Run cmd failed": f"The first error above says why. {machine.OLDER_COMPILER}",
    }
    return next((fix for sign, fix in fixes.items() if sign in problem), "")


CHECKS = {
    "Python": python, "Python headers": headers, "numpy": numpy, "C++ compiler": compiler, "OpenMP": openmp,
    "libstdc++": libstdcxx, "CPU": cpu, "threads": computing_threads, "home": home, "disk": disk, "oneDNN": one_dnn,
    "GPU": gpu, "cutlass": cutlass, "torch": torch, "environment": variables, "Jittor": jittor,
}
