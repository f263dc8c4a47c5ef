"""What Jittor needs to know about this machine before it is imported. Nothing here imports it.

`make_plan` only looks; `runtime.py` carries the plan out, and `detr-jittor doctor` prints it.
"""

import json
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from detr_jittor.errors import DetrError
from detr_jittor.jt import cuda, onednn


@dataclass(frozen=True)
class Plan:
    """How Jittor is started here."""

    home: Path  # the home directory that Jittor is shown: it keeps everything in home/.cache/jittor
    variables: dict[str, str]  # environment variables for Jittor; what the user has set himself stays
    cuda: cuda.Cuda
    notes: list[str]  # what is mended for this process, a line each


def make_plan() -> Plan:
    """Decide how to start Jittor.

    Errors: DetrError for what cannot be mended from inside a process: numpy, g++, Python's headers.
    """
    check_numpy()
    find_compiler()
    variables = {
        # else Jittor names its cache after the git branch around site-packages: a new branch, minutes of compiling
        "cache_name": "default",
        "python_config_path": str(find_python_config()),
        # sources that Jittor would download, for operators that DETR does not use
        "use_cutt": "0", "use_cutlass": "0", "use_nccl": "0",
    }
    home, notes = choose_home()
    found = cuda.find_cuda(home)
    if found.problem:
        variables["nvcc_path"] = ""
        if found.nvcc and "nvcc_path" not in os.environ:
            notes.append(f"Jittor runs on the CPU: {found.problem}.")
    if "torch" in sys.modules and "jittor" not in sys.modules:
        notes.append("torch was imported before jittor: Jittor runs 2 to 5 times slower in this process. "
                     "Import jittor first.")
    return Plan(home, variables, found, notes)


def check_numpy() -> None:
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise DetrError(f"numpy {numpy.__version__} is installed; Jittor 1.3.11 silently corrupts arrays with numpy 2.",
                        'Run: pip install "numpy<2"')


def find_compiler() -> str:
    """The C++ compiler that Jittor will take. Errors: DetrError if there is none."""
    name = os.environ.get("cc_path") or "g++"
    found = shutil.which(name)
    if not found:
        raise DetrError(f"no C++ compiler ({name}); Jittor compiles its operators.", "Run: sudo apt install g++")
    return found


def find_python_config() -> Path:
    """The `python3.x-config` of the very Python that runs. Jittor would take another one of the same version.

    Errors: DetrError if it or Python.h is missing, or if its path has a space, which Jittor cannot handle.
    """
    version = f"python3.{sys.version_info.minor}"
    mend = f"Run: sudo apt install {version}-dev (or use a Python from conda, pyenv or uv, which brings its headers)."
    if "python_config_path" in os.environ:
        return Path(os.environ["python_config_path"])
    bases = [Path(sys.base_prefix) / "bin", Path(os.path.realpath(sys.executable)).parent,
             Path(sysconfig.get_config_var("BINDIR") or "/usr/bin")]
    found = next((b / f"{version}-config" for b in bases if (b / f"{version}-config").is_file()), None)
    header = Path(sysconfig.get_path("include", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    if found is None or not (header / "Python.h").is_file():
        raise DetrError(f"{version}-config or Python.h not found: Python's headers are not installed.", mend)
    if " " in str(found):
        raise DetrError(f"Python lies in {found.parent}: Jittor cannot compile against a path with a space.",
                        "Use a Python in another folder.")
    return found


def choose_home() -> tuple[Path, list[str]]:
    """The folder that Jittor takes for the user's home, and notes if it is not the usual one.

    Usual is JITTOR_HOME, else the folder that Jittor remembers from an earlier JITTOR_HOME, else HOME.
    Errors: DetrError if there is no place at all to write to, or JITTOR_HOME is not usable.
    """
    wanted = os.environ.get("JITTOR_HOME")
    if wanted:
        problem = home_problem(Path(wanted).absolute())
        if problem:
            raise DetrError(f"JITTOR_HOME: {problem}.", "Choose another folder or unset it.")
        return Path(wanted).absolute(), []
    usual, problem = remembered_home()
    if usual and not problem:
        problem = home_problem(usual)
        if not problem:
            return usual, []
    for home in spare_homes(usual):
        if not home_problem(home):
            return home, [f"{problem}; Jittor's cache is in {home} instead."]
    raise DetrError(f"{problem}, nor is there another place for Jittor's cache.",
                    "Set HOME to a folder that can be written.")


def remembered_home() -> tuple[Path | None, str]:
    """(the home that Jittor would choose, what is wrong with it). An earlier JITTOR_HOME stays in its config.json."""
    try:
        home = Path.home().absolute()
    except RuntimeError:
        return None, "this user has no home directory"
    memory = home / ".cache" / "jittor" / "config.json"
    if not memory.is_file():
        return home, ""
    try:
        remembered = Path(json.loads(memory.read_text()).get("JITTOR_HOME", home))
    except (OSError, ValueError, AttributeError, TypeError):
        return home, f"{memory} is not readable"
    if not remembered.is_dir():
        return home, f"{memory} remembers the JITTOR_HOME {remembered}, which is gone"
    return remembered, ""


def spare_homes(usual: Path | None) -> list[Path]:
    """Where to go if the usual home does not serve, best first: what outlives this process comes before /tmp."""
    own = f"detr-jittor-{os.getuid()}"
    cache = os.environ.get("XDG_CACHE_HOME")
    homes = [usual / ".cache" / "detr-jittor"] if usual else []
    return [*homes, *([Path(cache) / "detr-jittor"] if cache else []), Path(tempfile.gettempdir()) / own]


def home_problem(home: Path) -> str:
    """Why Jittor's cache cannot be in `home`, "" if it can. Makes the folder."""
    place = home / ".cache" / "jittor"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return f"{place} cannot be written ({error.strerror})"
    if os.stat(home).st_uid not in (os.getuid(), 0):
        return f"{home} belongs to another user"  # who could plant code in it
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        return f"{place} lies on a disk that forbids running programs (noexec)"
    found = onednn.others(home)
    if found:
        return f"{found[0]} is not the oneDNN that was tested"
    return ""


def needs_onednn(plan: Plan) -> bool:
    """The wheels exist for x86-64 Linux only; elsewhere Jittor downloads its own."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")
