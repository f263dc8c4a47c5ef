"""What stands between Python and Jittor's core in C++, looked up in place of written anew.

Jittor writes it at each start from its 300 headers, four tenths of a second in which nothing changes. What it wrote
from a header is kept under a digest of all that it was written from, so a header that changes is read anew.
"""

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

NAME = "jittor.pyjt_compiler"


def install(utils) -> Callable[[], None]:
    """Have the Jittor of `utils`, the module jittor_utils, look it up.

    Returns: what keeps all that was written since; to be called when Jittor is imported.
    """
    source = Path(utils.__file__).parents[1] / "jittor" / "pyjt_compiler.py"
    if NAME in sys.modules or not source.is_file():
        return lambda: None
    spec = importlib.util.spec_from_file_location(NAME, source)
    writer = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    write, rules = writer.compile_src, source.read_text(encoding="utf-8")
    file = Path(utils.cache_path) / "detr_bindings.json"
    known, used = read(file), {}

    def look_up(*header: str):
        key = hashlib.sha256("\0".join([rules, *header]).encode()).hexdigest()
        used[key] = known[key] if key in known else write(*header)
        return used[key]

    def keep() -> None:
        if used.keys() <= known.keys():
            return
        part = file.with_suffix(f".{os.getpid()}")  # another process may be at the same
        try:
            part.write_text(json.dumps(used), encoding="utf-8")
            os.replace(part, file)
        except OSError:  # a full disk: it is written anew at the next start
            part.unlink(missing_ok=True)

    writer.compile_src = look_up
    return keep


def read(file: Path) -> dict[str, str | None]:
    """{digest: what was written}, nothing where there is no such file"""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
