"""Jittor's headers, compiled once for all operators.

Jittor compiles each of its small operators as a program of its own, and two thirds of that second go to the same
headers. GCC can keep them compiled (https://gcc.gnu.org/onlinedocs/gcc/Precompiled-Headers.html); it reads the
text itself where the kept form does not fit.
"""

import hashlib
import os
import shlex
import subprocess
from pathlib import Path

TEXT = """\
#define JIT 1
#define JIT_cpu 1
#include <cmath>
#include <algorithm>
#include <limits>
#include <assert.h>
#include "var.h"
#include "ops/op_register.h"
#include "fused_op.h"
#include "executor.h"
#include "misc/cpu_math.h"
"""


def compile_headers(jt) -> str:
    """Have `jt`'s operators compiled with such headers, which are made first where they are missing.

    Returns: why this is not possible, "" if it is.
    """
    flags = jt.flags.cc_flags
    if jt.flags.cc_type != "g++":
        return ""
    header = Path(jt.flags.cache_path) / f"detr_headers_{key(jt)}.h"
    kept = header.with_name(header.name + ".gch")
    if not kept.exists():
        part = f".{os.getpid()}.part"  # another process may be at the same
        try:
            header.write_text(TEXT)
            command = [jt.flags.cc_path, "-x", "c++-header", str(header), *compiling(flags)]
            subprocess.run([*command, "-o", f"{kept}{part}"], check=True, capture_output=True, text=True)
            for old in kept.parent.glob("detr_headers_*.gch"):  # 66 MB each
                old.unlink(missing_ok=True)
            os.replace(f"{kept}{part}", kept)
        except (OSError, subprocess.CalledProcessError) as error:
            Path(f"{kept}{part}").unlink(missing_ok=True)
            return (getattr(error, "stderr", "") or str(error)).strip().splitlines()[0]
    jt.flags.cc_flags = f'{flags} -include"{header}" '
    return ""


def compiling(flags: str) -> list[str]:
    """The flags without those of the linker, and without headers that are kept compiled"""
    return [f for f in shlex.split(flags) if not f.startswith(("-l", "-L", "-Wl,", "-shared", "-include"))]


def key(jt) -> str:
    """Changes with the flags and with Jittor's headers, since GCC does not look whether these are still the same."""
    files = sorted(Path(jt.flags.jittor_path, "src").rglob("*.h"))
    stats = [(str(f), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
    return hashlib.sha256(repr((TEXT, compiling(jt.flags.cc_flags), stats)).encode()).hexdigest()[:12]
