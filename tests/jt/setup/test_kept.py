"""Headers that are kept compiled: the compiler takes them, and what hinders that leaves nothing behind."""

import subprocess

import pytest

from detr_jittor.jt.kernels.fast import library
from detr_jittor.jt.setup import kept
from detr_jittor.jt.setup.runtime import jt

pytestmark = pytest.mark.slow


def compiles(source, *flags: str) -> bool:
    """Whether it does, where headers that are not taken are an error."""
    command = [jt.flags.cc_path, "-fsyntax-only", "-Winvalid-pch", "-Werror", str(source), *flags]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_the_compiler_takes_them(tmp_path):
    header, source = tmp_path / "a header.h", tmp_path / "a source.cc"
    header.write_text("#include <vector>\ntypedef std::vector<int> Numbers;\n")
    source.write_text("Numbers numbers;\n")
    kept.keep_compiled(header, jt.flags.cc_path, "-O2 -lm -shared")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a header.h", "a header.h.gch", "a source.cc"]
    assert not compiles(source, f"-include{header}", "-O0"), "this check sees what does not fit"
    header.write_text("#error the text was read")
    assert compiles(source, f"-include{header}", "-O2"), "it could be anything now"


@pytest.mark.parametrize("compiler, text, told", [
    ("/no/such/compiler", "", "No such file"), ("", '#include "no such.h"', "no such.h: No such file")])
def test_a_reason_and_nothing_left_behind(tmp_path, compiler, text, told):
    header = tmp_path / "a_header.h"
    header.write_text(text)
    with pytest.raises((OSError, subprocess.CalledProcessError)) as error:
        kept.keep_compiled(header, compiler or jt.flags.cc_path, "-O2")
    assert told in kept.reason(error.value) and "\n" not in kept.reason(error.value)
    assert [*tmp_path.iterdir()] == [header]


@pytest.mark.skipif(library.unavailable() != "", reason="the fast kernels do not serve here")
def test_the_kernels_take_what_they_have_in_common(tmp_path):
    library.copied(library.SOURCES, tmp_path)
    flags = library.with_common(tmp_path, library.kernel_flags())
    (tmp_path / library.COMMON).write_text("#error the text was read")
    jittors = kept.compiling(f"{flags} {jt.compiler.cc_flags} {jt.compiler.opt_flags}")
    assert compiles(tmp_path / "detr_pooling.cc", *jittors)
    (tmp_path / f"{library.COMMON}.gch").unlink()
    (tmp_path / "custom_ops").mkdir()
    (tmp_path / "custom_ops" / "library.so").touch()
    assert library.with_common(tmp_path, library.kernel_flags()) == flags and not [*tmp_path.glob("*.gch")]


def test_sources_that_have_nothing_in_common(tmp_path):
    assert library.with_common(tmp_path, "-O2") == "-O2" and not [*tmp_path.iterdir()]
