"""Files that are whole at every moment, also after a power failure or a kill in the midst of writing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name under which to write what is to stand in place of `path`, which keeps its content until that is done.

    What a killed process leaves under that name is removed by the next run in its folder (`RunFolder`).
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
