"""A home directory in which Jittor finds its compiled core, as an installation leaves it, but no operator of DETR.

Jittor keeps in home/.cache/jittor: oneDNN (mkl/), and for each compiler and Python the core (jittor_core*.so), the
objects that it was made of (obj_files/), compiled operators (jit/) and libraries of operators (custom_ops/). Beside
each compiled file stands a .key with the command that made it; if that differs, the file is compiled anew.
"""

import shutil
from pathlib import Path

OURS = "detr_"  # how the files of our own kernels begin, after what Jittor puts before


def without_operators(home: Path, scratch: Path) -> None:
    """Make `scratch` such a home, from the one in use. A few generated files hold the name of their folder; the next
    import compiles those, and no more, anew."""
    source, target = (place / ".cache" / "jittor" for place in (home, scratch))
    shutil.copytree(source, target, symlinks=True, ignore=operators)
    for key in target.rglob("*.key"):  # the commands name the folder
        key.write_text(key.read_text().replace(str(source), str(target)))


def environment(home: Path) -> dict[str, str | None]:
    """Variables of a process that is to use it. Not JITTOR_HOME: the processes with which Jittor compiles would write
    that into the user's own home, and every later run would obey it."""
    return {"HOME": str(home), "JITTOR_HOME": None}


def operators(folder: str, names: list[str]) -> list[str]:
    """What is left out of a folder."""
    if Path(folder).name == "jit":
        return names
    return [name for name in names if OURS in name or name in ("tmp", "checkpoints", "lock", "jittor.lock")]


def core(home: Path) -> dict[Path, int]:
    """When each core was compiled."""
    return {path: path.stat().st_mtime_ns for path in (home / ".cache" / "jittor").rglob("jittor_core*.so")}
