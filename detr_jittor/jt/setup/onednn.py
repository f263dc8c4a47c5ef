"""oneDNN for Jittor on a CPU, from its PyPI wheels.

Jittor looks for `<home>/.cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp/{include,lib/libmkldnn.so}` and downloads an archive
of its own if that is missing. The wheels `onednn-cpu-gomp` and `onednn-devel-cpu-gomp` hold the same library, four
versions newer, and need no other host. Its files are copied, not linked: the copy outlives the virtual environment,
and several environments can share one home.
"""

import fcntl
import os
import re
import shutil
from importlib import metadata
from pathlib import Path

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup.folders import appearing

WHEELS = {"onednn-cpu-gomp": "2022.2.1", "onednn-devel-cpu-gomp": "2022.2.1"}
VERSION = (2, 6)
FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"  # Jittor's name for it, whatever is inside
LIBRARY = "libdnnl.so.2"  # the library's own name (SONAME)
LINKS = ("libmkldnn.so", "libdnnl.so")  # the names that Jittor's operators and -ldnnl ask for


def folder(home: Path) -> Path:
    """Where Jittor looks for oneDNN if its home is `home`."""
    return home / ".cache" / "jittor" / "mkl" / FOLDER


def is_complete(place: Path) -> bool:
    """Whether `place` holds the headers and the library of VERSION under all the names that are asked for."""
    return version(place) == VERSION and all((place / "lib" / name).is_file() for name in (LIBRARY, *LINKS))


def version(place: Path) -> tuple[int, int] | None:
    """(major, minor) of the headers in `place`, None if there are none."""
    try:
        text = (place / "include" / "oneapi" / "dnnl" / "dnnl_version.h").read_text()
    except OSError:
        return None
    numbers = dict(re.findall(r"#define DNNL_VERSION_(MAJOR|MINOR)\s+(\d+)", text))
    return (int(numbers["MAJOR"]), int(numbers["MINOR"])) if len(numbers) == 2 else None


def others(home: Path) -> list[Path]:
    """Another oneDNN in Jittor's folder, put there by Jittor or by hand.

    Jittor takes whichever `dnnl*` folder the file system lists first, and two versions do not mix in one process.
    """
    found = [p for p in folder(home).parent.glob("dnnl*") if p.is_dir() and not is_complete(p)]
    return [p for p in found if p.name != FOLDER or ((p / "lib" / LINKS[0]).is_file() and version(p) != VERSION)]


def wheel_files() -> tuple[list[tuple[Path, str]], Path]:
    """The wheels' headers, each with its path below `include/`, and the library.

    pip puts them in the environment's `include/` and `lib/`, wherever that is; the wheels' own lists know it.
    Errors: DetrError if a wheel is missing or incomplete.
    """
    files = []
    for name, wanted in WHEELS.items():
        try:
            files += metadata.files(name) or []
        except metadata.PackageNotFoundError:
            raise DetrError(f"the package {name} is missing; Jittor needs oneDNN on a CPU.",
                            f"Run: pip install {name}=={wanted}") from None
    headers = [(Path(f.locate()).resolve(), re.sub(r"^.*?\binclude/", "", f.as_posix()))
               for f in files if re.search(r"\binclude/.*\.hp?p?$", f.as_posix())]
    libraries = [Path(f.locate()).resolve() for f in files if f.name == LIBRARY]
    missing = [p for p in [h for h, _ in headers] + libraries if not p.is_file()]
    if missing or not headers or not libraries:
        what = missing[0] if missing else "oneDNN's headers or library"
        raise DetrError(f"{what} is missing from the installed oneDNN.",
                        "Run: pip install --force-reinstall " + " ".join(f"{n}=={v}" for n, v in WHEELS.items()))
    return headers, libraries[0]


def place(home: Path) -> tuple[Path, Path]:
    """Put oneDNN where Jittor looks for it, unless it is there. Safe when several processes start at once.

    Returns: the folders of the headers and of the library.
    Errors: DetrError if the wheels are missing; OSError if the disk is full.
    """
    target = folder(home)
    if not is_complete(target):
        headers, library = wheel_files()
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target.parent / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_complete(target):  # nobody else did it while this process waited
                fill(target, headers, library)
    return target / "include", target / "lib"


def fill(target: Path, headers: list[tuple[Path, str]], library: Path) -> None:
    """Build the folder beside `target` and swap it in, so that nobody ever sees half of it."""
    with appearing(target) as new:
        (new / "lib").mkdir()
        for source, name in headers:
            (new / "include" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, new / "include" / name)
        shutil.copyfile(library, new / "lib" / LIBRARY)
        for name in LINKS:
            os.symlink(LIBRARY, new / "lib" / name)
        if os.path.lexists(target):
            os.rename(target, new.parent / "old")  # which goes with what else is left there
