"""Jittor's operators, each compiled by one call of the compiler.

Jittor starts a Python for each, which has assembler text written with debugging lines in it, changes what a comment
`//@begin` of the source asks for, and has that text assembled: twice the work. Here only operators with such a comment,
one in twenty of DETR's, go that way.

Most are content with some members of Jittor's classes (see layouts.py), and are tried so first.

A library compiled here appears whole or not at all. Jittor notes for which source and flags a library was compiled, and
does not take the note away before it compiles it anew; so half a library, of a compiler that was killed, would be taken
for that of the note.
"""

import os
import shlex
from pathlib import Path

from detr_jittor.jt.setup.layouts import folder

# It takes the place of `python .../asm_tuner.py --cc_path=g++ operator.cc -o operator.so …`.
SCRIPT = """\
#!/bin/sh
layouts={layouts}
case "$1" in
*/asm_tuner.py)
    tuner=$1 asked=$2 source=$3
    shift 3
    if [ -d "$layouts" ] && grep -Eq '^void (jittor::)?{content}Op::jit_run' "$source"; then
        content=yes
    fi
    if grep -q '//@begin' "$source"; then
        [ "$content" ] && {python} "$tuner" "$asked" "$source" "-iquote$layouts" "-include$layouts/layouts.h" "$@" \\
            2>/dev/null && exit
        exec {python} "$tuner" "$asked" "$source" "$@"
    fi
    compiler="${{asked#--cc_path=}}"
    for target; do :; done  # the last of all
    {{
        [ "$content" ] && "$compiler" "-iquote$layouts" "-include$layouts/layouts.h" "$source" "$@" -o "$target.$$" \\
            2>/dev/null || "$compiler" "$source" "$@" -o "$target.$$"
    }} && exec mv "$target.$$" "$target"
    exit
esac
exec {python} "$@"
"""
CONTENT = "(Fused|Getitem|Setitem|Transpose|ArgReduce|Code)"  # with the members in layouts.py, most of them


def compile_directly(jt) -> str:
    """Have `jt` compile its operators so; a compiler other than GCC is left alone.

    Returns: why this is not possible, "" if it is.
    """
    if jt.flags.cc_type != "g++":
        return ""
    script = Path(jt.flags.cache_path) / "detr_compile"
    text = SCRIPT.format(python=shlex.quote(jt.flags.python_path), layouts=shlex.quote(str(folder(jt))),
                         content=CONTENT)
    try:
        if not script.exists() or script.read_text() != text:
            part = script.with_name(f"{script.name}.{os.getpid()}")  # another process may be at the same
            part.write_text(text)
            part.chmod(0o755)
            os.replace(part, script)
    except OSError as error:
        return str(error)
    jt.flags.python_path = str(script)
    return ""
