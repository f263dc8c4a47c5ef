"""Jittor's operators, each compiled by one call: what is asked of the assembler is still done."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detr_jittor.jt.setup import operators
from detr_jittor.jt.setup.runtime import jt


def stand_in(**changes):
    """What has to be known of Jittor."""
    flags = {"cc_type": "g++", "cc_flags": "-O2", "jittor_path": jt.flags.jittor_path}
    return SimpleNamespace(flags=SimpleNamespace(**{**flags, **changes}))


@pytest.fixture
def script(tmp_path):
    """The script for a Jittor whose Python only tells what it is asked."""
    python = tmp_path / "its python"
    python.write_text('#!/bin/sh\necho python "$@"\n')
    python.chmod(0o755)
    own = stand_in(cache_path=str(tmp_path), python_path=str(python))
    assert operators.compile_directly(own) == ""
    return own.flags.python_path


@pytest.mark.parametrize("helper, source, told", [
    ("asm_tuner.py", "//@begin replace a b\nint a;\n//@end",
     "python /utils/asm_tuner.py --cc_path=echo {source} -o out of it.so"),
    ("dlink_compiler.py", "int a;", "python /utils/dlink_compiler.py --cc_path=echo {source} -o out of it.so"),
])
def test_who_compiles(script, tmp_path, helper, source, told):
    path = tmp_path / "an_op.cc"
    path.write_text(source)
    done = subprocess.run([script, f"/utils/{helper}", "--cc_path=echo", str(path), "-o", "out of it.so"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told.format(source=path)


COMPILER = """\
#!/bin/sh
for target; do :; done
echo half > "$target"
{end}
echo "$@" > "$target"
"""


@pytest.mark.parametrize("end, status", [("", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_a_library_appears_whole_or_not_at_all(script, tmp_path, end, status):
    source, library, compiler = tmp_path / "an op.cc", tmp_path / "out of it.so", tmp_path / "compiler"
    source.write_text("int a;")
    library.write_text("the former one")
    compiler.write_text(COMPILER.format(end=end))
    compiler.chmod(0o755)
    done = subprocess.run([script, "/asm_tuner.py", f"--cc_path={compiler}", str(source), "-O2", "-o", str(library)])
    assert done.returncode == status
    if status:
        assert library.read_text() == "the former one"
    else:  # GCC takes the last of two names
        assert library.read_text().startswith(f"{source} -O2 -o {library} -o {library}.")
        assert [f.name for f in tmp_path.glob("out of it.so*")] == [library.name]


def test_a_folder_that_cannot_be_written_is_told():
    own = stand_in(cache_path="/no/such/folder", python_path="python")
    assert "/no/such/folder" in operators.compile_directly(own)
    assert own.flags.python_path == "python"


def test_another_compiler_is_left_alone(tmp_path):
    own = stand_in(cc_type="clang", cache_path=str(tmp_path), python_path="python")
    assert operators.compile_directly(own) == ""
    assert own.flags.python_path == "python" and not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_jittor_compiles_so():
    doubled = jt.code((3,), "float32", [jt.array(np.float32([1, 2, 3]))], cpu_src="""
        for (int of_test_operators = 0; of_test_operators < 3; of_test_operators++)
            out0_p[of_test_operators] = 2 * in0_p[of_test_operators];""")
    assert doubled.numpy().tolist() == [2, 4, 6]
    sources = [f for f in Path(jt.flags.cache_path, "jit").glob("code*_op.cc") if "of_test_operators" in f.read_text()]
    assert sources and not any(f.with_suffix(".post.s").exists() for f in sources), "no assembler text was written"
