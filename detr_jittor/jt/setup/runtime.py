"""`from detr_jittor.jt.setup.runtime import jt`: Jittor, imported in such a way that it works on a bare machine.

Every file in this room imports Jittor from here and nowhere else, so that the preparation cannot come too late.
machine.py decides, here it is carried out, and only for this process: environment variables are put back.
"""

import atexit
import contextlib
import os
import signal
import ssl
import sys
import threading
from pathlib import Path
from types import ModuleType

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup import bindings, core, layouts, onednn, operators, patches, toolkit
from detr_jittor.jt.setup.machine import Plan, make_plan, needs_onednn
from detr_jittor.twin import processor, threads, waiting


def prepare() -> Plan:
    """Decide how to start Jittor, place oneDNN and CUDA, and say what is fixed. Errors: DetrError."""
    processor.prepare()
    threads.prepare()
    plan = make_plan()
    if needs_onednn():
        try:
            onednn.place(plan.home)
        except OSError as error:
            raise DetrError(f"oneDNN cannot be put into {onednn.folder(plan.home)} ({error.strerror}).",
                            "It takes 40 MB of disk; Jittor's cache some hundred more.") from None
    if plan.cuda.chosen and (parts := plan.cuda.chosen.parts):
        try:
            toolkit.place(plan.home, parts)
        except OSError as error:
            raise DetrError(f"CUDA cannot be put together in {toolkit.folder(plan.home, parts)} ({error.strerror}).",
                            "Free some disk, or set JITTOR_HOME to a folder on another disk.") from None
    for note in plan.notes:
        say(note)
    return plan


def say(line: str) -> None:
    print(f"detr-jittor: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def environment(variables: dict[str, str | None]):
    """Set environment variables (None: unset) for a while."""
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


def import_jittor(plan: Plan) -> ModuleType:
    """Import Jittor as planned.

    Errors: DetrError if it does not start, with the last line of its reason; `detr-jittor doctor` looks for the cause.
    """
    torch_was_first = "torch" in sys.modules and "jittor" not in sys.modules
    certificates, recursion = ssl._create_default_https_context, sys.getrecursionlimit()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT)}
    try:
        with environment(plan.variables), patches.in_front(packages(plan)), quiet():
            import jittor_utils

            core.install(jittor_utils)
            keep_bindings = bindings.install(jittor_utils)
            import jittor

            keep_bindings()
    except SystemExit:  # after a change in its own files Jittor rebuilds itself and stops with status 0
        raise DetrError("Jittor was updated and has rebuilt itself.", "Run the same command again.") from None
    except DetrError:
        raise
    except Exception as error:
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        raise DetrError(f"Jittor does not start: {reason}", "Run: detr-jittor doctor") from error
    finally:
        # Jittor changes both for the whole process: no certificate is checked any more, and a deeply nested JSON file
        # overflows the stack instead of raising RecursionError
        ssl._create_default_https_context = certificates
        sys.setrecursionlimit(recursion)
        restore(handlers)
    if torch_was_first and len(waiting.libraries()) > 1:
        say("torch was imported before jittor and brought an OpenMP of its own: Jittor can be 2 to 5 times slower "
            "in this process. Import jittor first.")
    return jittor


def packages(plan: Plan) -> Path | None:
    """The folder to import a patched Jittor from, None where it may be as it is installed. Errors: DetrError."""
    if not plan.patches:
        return None
    try:
        place = patches.place(plan.home, plan.patches)
    except OSError as error:
        raise DetrError(f"Jittor's patched sources cannot be put into {patches.folder(plan.home, plan.patches)} "
                        f"({error.strerror}).", "They take 2 MB of disk; Jittor's cache some hundred more.") from None
    before = sys.modules.get("jittor_utils")
    if before and not Path(before.__file__).is_relative_to(place):
        raise DetrError("jittor was imported before detr_jittor, without the patches that it needs here.",
                        "Import detr_jittor first.")
    return place


def end_pool() -> None:
    """End the processes in which Jittor compiles itself, and which it keeps for its lifetime: a signal to all processes
    of a run (Ctrl-C, `timeout`, mpirun) kills them, and this one would wait for them at its exit for ever."""
    import jittor_utils

    if jittor_utils.pool_size:
        atexit.unregister(jittor_utils.pool_cleanup)
        jittor_utils.pool_cleanup()
        jittor_utils.pool_size = 0  # one that is needed later is made then


def restore(handlers: dict) -> None:
    """Take signals back from Jittor, which ends the process without a word to the program: on Ctrl-C, and as soon as
    any child process is killed, stopped or continued, such as a worker that reads pictures."""
    if threading.current_thread() is threading.main_thread():  # elsewhere Python does not allow it
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet():
    """Without Jittor's log at the start, unless the user asks for it. Its progress in compiling goes to stderr."""
    if "log_silent" in os.environ or "log_v" in os.environ:
        yield
        return
    with environment({"log_silent": "1"}), contextlib.redirect_stdout(sys.stderr):
        import jittor_utils

        log = jittor_utils.LOG
        log.log_silent, log.log_v = 0, -1  # as silent, but log_silent would hide the progress, too
        cache = Path(jittor_utils.cache_path)
        if not [*cache.glob("jittor_core*.so"), *cache.glob("cu*/jittor_core*.so")]:
            say("compiling Jittor's core; this happens once and takes about two minutes.")
        yield
    log.log_v = 0
    sys.modules["jittor"].flags.log_silent = 0  # for the C++ side


def limit_instructions(jt) -> None:
    """Have all operators compiled for the instructions that `processor.limit` allows, in a cache of their own. Jittor's
    core stays as it is: it arranges the computation, and computes nothing."""
    if not (flags := processor.compiler_flags()):
        return
    place = Path(jt.flags.cache_path, processor.limit().compiler)
    (place / "jit").mkdir(parents=True, exist_ok=True)
    jt.compiler.cc_flags = jt.compiler.cc_flags.replace("-march=native", flags)
    jt.flags.cc_flags = jt.flags.cc_flags.replace("-march=native", flags)
    jt.flags.cache_path = str(place)


def onednn_paths() -> tuple[Path, Path] | None:
    """The folders of the headers and of the library of oneDNN 2.6 in this process, None where there is none.

    Compile with `-I"headers"` and link with `-L"library" -ldnnl`: Jittor adds the run path, and its own operators use
    the same library.
    """
    place = onednn.folder(plan.home)
    return (place / "include", place / "lib") if onednn.is_complete(place) else None


plan = prepare()
jt = import_jittor(plan)
limit_instructions(jt)
if reason := layouts.write_layouts(jt):
    say(f"Jittor's operators are compiled with all of its headers ({reason}): each new one takes five times as long.")
if reason := operators.compile_directly(jt):
    say(f"Jittor's operators are compiled its own way ({reason}): each new one takes twice as long.")
