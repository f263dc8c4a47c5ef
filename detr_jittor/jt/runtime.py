"""`from detr_jittor.jt.runtime import jt`: Jittor, imported in such a way that it works on a bare machine.

Every file in this room imports Jittor from here and nowhere else, so that the preparation cannot come too late.
What is decided is in machine.py; here it is carried out, for this process only.
"""

import contextlib
import os
import ssl
import sys
from pathlib import Path

from detr_jittor.errors import DetrError
from detr_jittor.jt import onednn
from detr_jittor.jt.machine import Plan, make_plan, needs_onednn


def prepare() -> Plan:
    """Set the environment and place oneDNN, so that `import jittor` works. What the user has set himself stays."""
    plan = make_plan()
    for name, value in plan.variables.items():
        os.environ.setdefault(name, value)
    if needs_onednn(plan):
        try:
            onednn.place(plan.home)
        except OSError as error:
            raise DetrError(f"oneDNN cannot be put into {onednn.folder(plan.home)} ({error.strerror}).",
                            "Free some disk space (detr-jittor doctor says how much is needed).") from None
    for note in plan.notes:
        print(f"detr-jittor: {note}", file=sys.stderr)
    return plan


def onednn_paths() -> tuple[Path, Path] | None:
    """The folders of oneDNN's headers and library that this process uses, None where there is no oneDNN 2.6.

    Compile with `-I"include"` and `-L"lib" -ldnnl`: Jittor adds the run path, and the library is the one that
    Jittor's own operators have loaded.
    """
    place = onednn.folder(plan.home)
    return (place / "include", place / "lib") if onednn.is_complete(place) else None


@contextlib.contextmanager
def environment(**variables: str | None):
    """Set variables (None: unset them) for a while."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        change_environment(variables)
        yield
    finally:
        change_environment(before)


def change_environment(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def import_jittor(plan: Plan):
    """Import Jittor with `plan.home` as its home.

    JITTOR_HOME stays unset meanwhile, because Jittor writes it to a file and obeys it ever after.
    """
    certificates = ssl._create_default_https_context
    log_silent = os.environ.get("log_silent", "1")
    try:
        with environment(HOME=str(plan.home), JITTOR_HOME=None, log_silent=log_silent):
            import jittor
    except SystemExit:
        raise DetrError("Jittor was updated and has rebuilt itself.", "Run the same command again.") from None
    except DetrError:
        raise
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        raise DetrError(f"Jittor does not start: {reason}", "Run: detr-jittor doctor") from error
    finally:
        ssl._create_default_https_context = certificates  # Jittor switches verification off for the whole process
    return jittor


plan = prepare()
jt = import_jittor(plan)
