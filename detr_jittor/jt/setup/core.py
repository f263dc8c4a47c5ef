"""Jittor's core, compiled in about half of the time that Jittor itself takes for it.

Its 150 files each read the same headers, which GCC can keep compiled (see kept.py). And what runs only while
operators are compiled, or carries a call from Python over to C++, is optimised less: it computes nothing. The sources
are Jittor's own.

Jittor compares the commands with those that made what it has, so a core that was made otherwise, by Jittor alone or by
an older version of this program, stays as it is.
"""

import multiprocessing
import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detr_jittor.jt.setup import kept

HEADER = "core_headers_"  # begins the names of ours beside the core, and is the sign that this core is made here
TEXT = """\
#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>
#include <Python.h>
#include "var.h"
#include "op.h"
#include "ops/op_register.h"
#include "fused_op.h"
#include "executor.h"
#include "var_holder.h"
#include "pyjt/py_converter.h"
#include "pyjt/py_arg_printer.h"
"""
USUAL, LESS = " -O2 ", " -O1 "
# Calls from Python, Jittor's own tests, what makes operators, and reports. Not: graph, executor, memory, operators.
NOT_HOT = ("/gen/pyjt_", "/src/test/", "/src/opt/", "/src/profiler/", "/src/utils/", "/src/pybind/",
           "/src/op_compiler.cc", "/src/jit_compiler.cc", "/src/parallel_compiler.cc", "/src/misc/miniz.cc",
           "/src/memory_profiler.cc")
LARGEST = ("/gen/pyjt_jit_op_maker.cc", "/gen/pyjt_jit_flags.cc", "/src/op_compiler.cc",
           "/src/opt/pass/check_cache_pass.cc")


def install(utils) -> None:
    """Have `utils`, the module jittor_utils, compile the core so; a compiler other than GCC is left alone."""
    load_once(utils)
    # From Python 3.14 on the processes of a pool begin anew and run the user's script once more, unless they fork
    utils.Pool = multiprocessing.get_context("fork").Pool
    if utils.cc_type != "g++" or "cc_flags" in os.environ:
        return
    original, memory = utils.run_cmds, utils.get_total_mem

    def run(commands, cache_path, jittor_path, msg="run_cmds"):
        cache = Path(cache_path)
        ours = msg == "Compiling jittor_core" and made_here(cache)
        try:
            return original(prepared(commands, cache) if ours else commands, cache_path, jittor_path, msg)
        finally:
            for header in cache.glob(f"{HEADER}*.gch"):  # 80 MB each
                header.unlink(missing_ok=True)

    utils.run_cmds = run
    # Jittor starts a compiler for each 3 GB of memory; more of them than processors only take turns
    utils.get_total_mem = lambda: min(memory(), 3 * 2**30 * len(os.sched_getaffinity(0)))


def load_once(utils) -> None:
    """Have the very first process load jit_utils_core once.

    That library of Jittor's runs the compiler and notes with which command it did so. In an empty cache it is compiled
    without it, loaded, and compiled again by itself, only for that note. The second file has the same name and is
    another one, so the core would be linked with it and load it beside the first: two copies of the same variables. And
    where one library may use another's variables, as under a preloaded one that takes RTLD_DEEPBIND away, both copies
    destroy the same ones, and the process ends with a double free.
    """
    load = utils.try_import_jit_utils_core

    def load_and_keep(*args, **options):
        load(*args, **options)
        library = getattr(utils.cc, "__file__", "")
        if not library or Path(f"{library}.key").exists() or not keep(library):
            return
        compile_with_note = utils.cc.cache_compile

        def compile_once(*command):
            utils.cc.cache_compile = compile_with_note
            try:
                return compile_with_note(*command)
            finally:
                os.replace(f"{library}.loaded", library)

        utils.cc.cache_compile = compile_once

    utils.try_import_jit_utils_core = load_and_keep


def keep(library: str) -> bool:
    """Give a file a second name, by which it can take its place again. Returns whether the disk can do so."""
    try:
        Path(f"{library}.loaded").unlink(missing_ok=True)
        os.link(library, f"{library}.loaded")
    except OSError:
        return False
    return True


def made_here(cache: Path) -> bool:
    return [*cache.glob(f"{HEADER}*.h")] != [] or not [*cache.glob("jittor_core*.so")]


def prepared(commands: list[str], cache: Path) -> list[str]:
    """The commands as they are to be run, the longest first; what they have in common is compiled by then. A compiler
    that cannot do that gets Jittor's own commands."""
    changed = [change(command, cache) for command in commands]
    changed.sort(key=lambda command: not any(f'{file}"' in command for file in LARGEST))
    missing = [command for command in changed if not Path(command.rpartition(" -o ")[2].strip(' "')).exists()]
    for level in (USUAL, LESS):
        if not header_for(cache, level).exists():
            header_for(cache, level).write_text(TEXT)
    if len(missing) > len(commands) / 4 and not keep_compiled(commands[0], cache):
        for level in (USUAL, LESS):
            header_for(cache, level).unlink()
        return commands
    return changed


def change(command: str, cache: Path) -> str:
    source = command.split('"')[3]
    if source.endswith(".cu"):
        return command  # of nvcc, which reads headers as they are
    level = LESS if any(part in source for part in NOT_HOT) else USUAL
    return command.replace(USUAL, level).replace(" -c -o ", f' -include"{header_for(cache, level)}" -c -o ')


def header_for(cache: Path, level: str) -> Path:
    """What is kept compiled serves one level of optimisation."""
    return cache / f"{HEADER}{level.strip(' -')}.h"


def keep_compiled(command: str, cache: Path) -> bool:
    """Compile the headers as `command` compiles a file. Returns whether that went well."""
    compiler, _, *flags = shlex.split(command.partition(" -c -o ")[0].replace(USUAL, " "))
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(kept.keep_compiled, header_for(cache, level), compiler, f"{shlex.join(flags)}{level}")
                   for level in (USUAL, LESS)]
    return not any(process.exception() for process in running)
