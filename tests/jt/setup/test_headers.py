"""Jittor's headers, compiled once: the compiler takes them, and what hinders that is said and costs nothing else."""

import shlex
import subprocess
from types import SimpleNamespace

import pytest

from detr_jittor.jt.setup import headers
from detr_jittor.jt.setup.runtime import jt

pytestmark = pytest.mark.slow

OPERATOR = '#define JIT 1\n#define JIT_cpu 1\n#include <cmath>\n#include "var.h"\n#include "ops/binary_op.h"\n'


def flags_of(tmp_path, **changes):
    """What a stand-in for Jittor has to show, with a cache of its own."""
    own = jt.flags.cc_flags.partition(" -include")[0]
    flags = {"cc_type": "g++", "cc_path": jt.flags.cc_path, "cc_flags": own, "cache_path": str(tmp_path),
             "jittor_path": jt.flags.jittor_path}
    return SimpleNamespace(flags=SimpleNamespace(**{**flags, **changes}))


def compiles(flags: str, folder) -> bool:
    """As Jittor compiles an operator, but headers that are not taken are an error."""
    (folder / "an_op.cc").write_text(OPERATOR)
    command = [jt.flags.cc_path, "-fsyntax-only", "-Winvalid-pch", "-Werror", str(folder / "an_op.cc")]
    return subprocess.run([*command, *shlex.split(flags)], capture_output=True).returncode == 0


def test_the_compiler_takes_them(tmp_path):
    own = flags_of(tmp_path)
    assert headers.compile_headers(own) == ""
    header = next(tmp_path.glob("*.h"))
    assert compiles(own.flags.cc_flags, tmp_path)
    assert not compiles(own.flags.cc_flags.replace("-Ofast", "-O1"), tmp_path), "this check sees what does not fit"
    # They are what is read: the text could be anything now
    header.write_text("#error the text was read")
    assert compiles(own.flags.cc_flags, tmp_path)


def test_made_once_and_again_after_a_change(tmp_path, monkeypatch):
    headers.compile_headers(flags_of(tmp_path))
    first = next(tmp_path.glob("*.gch"))
    made = first.stat().st_mtime_ns
    headers.compile_headers(flags_of(tmp_path))
    assert first.stat().st_mtime_ns == made
    monkeypatch.setattr(headers, "TEXT", headers.TEXT + "// changed\n")
    headers.compile_headers(flags_of(tmp_path))
    assert [f for f in tmp_path.glob("*.gch")] != [first], "the old ones are gone, new ones made"
    assert len([*tmp_path.glob("*.gch")]) == 1 and not [*tmp_path.glob("*.part")]


def test_jittor_headers_count(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "var.h").write_text("struct Var {};")
    own = flags_of(tmp_path, jittor_path=str(tmp_path))
    before = headers.key(own)
    (tmp_path / "src" / "var.h").write_text("struct Var { int more; };")
    assert headers.key(own) != before


@pytest.mark.parametrize("changes, reason", [
    ({"cc_path": "/no/such/compiler"}, "No such file"),
    ({"cache_path": "/no/such/folder"}, "No such file"),
    ({"cc_flags": "-I/no/such/include"}, "var.h"),
])
def test_without_them_nothing_changes(tmp_path, changes, reason):
    own = flags_of(tmp_path, **changes)
    before = own.flags.cc_flags
    assert reason in headers.compile_headers(own)
    assert own.flags.cc_flags == before
    assert not [*tmp_path.glob("*.gch*")]


def test_another_compiler_is_left_alone(tmp_path):
    own = flags_of(tmp_path, cc_type="clang")
    before = own.flags.cc_flags
    assert headers.compile_headers(own) == "" and own.flags.cc_flags == before
