"""Headers that GCC keeps compiled (https://gcc.gnu.org/onlinedocs/gcc/Precompiled-Headers.html).

It reads the text itself where the kept form does not fit.
"""

import os
import shlex
import subprocess
from pathlib import Path


def keep_compiled(header: Path, compiler: str, flags: str) -> None:
    """Have GCC take `header` compiled where it comes first and the flags are the same.

    Errors: OSError, subprocess.CalledProcessError.
    """
    part = f"{header}.{os.getpid()}.part"  # another process may be at the same
    try:
        run([compiler, *compiling(flags), "-x", "c++-header", str(header), "-o", part])
        os.replace(part, f"{header}.gch")
    finally:
        Path(part).unlink(missing_ok=True)


def compiling(flags: str) -> list[str]:
    """The flags without those of the linker"""
    return [f for f in shlex.split(flags) if not f.startswith(("-l", "-L", "-Wl,", "-shared"))]


def run(command: list[str], source: str = "") -> None:
    """Args: source: what the command reads. Errors: as above."""
    subprocess.run(command, input=source, check=True, capture_output=True, text=True)


def reason(error: OSError | subprocess.CalledProcessError | ValueError) -> str:
    """What went wrong, in one line."""
    return (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
