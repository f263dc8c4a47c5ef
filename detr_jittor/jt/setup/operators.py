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
thin() {{  # an operator that is content with some members of Jittor's classes
    [ -d "$layouts" ] && grep -Eq '^void (jittor::Fused|Getitem|Setitem)Op::jit_run' "$1" || return
    for flag; do
        shift
        case "$flag" in -include*) ;; *) set -- "$@" "$flag" ;; esac
    done
    "$compiler" -iquote "$layouts" -include "$layouts/layouts.h" "$@" -o "$target.$$" 2>/dev/null
}}
case "$1" in
*/asm_tuner.py)
    if ! grep -q '//@begin' "$3"; then
        compiler="${{2#--cc_path=}}"
        shift 2
        for target; do :; done  # the last of all
        {{ thin "$@" || "$compiler" "$@" -o "$target.$$"; }} && exec mv "$target.$$" "$target"
        exit
    fi
esac
exec {python} "$@"
"""


def compile_directly(jt) -> str:
    """Have `jt` compile its operators so; a compiler other than GCC is left alone.

    Returns: why this is not possible, "" if it is.
    """
    if jt.flags.cc_type != "g++":
        return ""
    script = Path(jt.flags.cache_path) / "detr_compile"
    text = SCRIPT.format(python=shlex.quote(jt.flags.python_path), layouts=shlex.quote(str(folder(jt))))
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
