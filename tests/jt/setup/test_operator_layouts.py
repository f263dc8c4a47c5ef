"""Operators that know only some members of Jittor's classes: these lie where Jittor has them."""

import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detr_jittor.jt.setup import layouts, operators
from detr_jittor.jt.setup.runtime import jt

SIZES = (1, 3, 129, 2, 1, 5)  # the longest needs nine bits


def stand_in(cache: Path, **changes):
    """What has to be known of Jittor, with a cache of its own."""
    flags = {name: getattr(jt.flags, name) for name in ("cc_type", "cc_path", "cc_flags", "jittor_path")}
    return SimpleNamespace(flags=SimpleNamespace(cache_path=str(cache), **{**flags, **changes}))


def random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def written(x, y, rows):
    x = x.copy()
    x[rows] = y
    return x


X, Y, ROWS = random(*SIZES), random(3, 129, 1, 1, 5), np.array([4, 0, 4])
CASES = {
    "binary, broadcast_to": (lambda x, y: x * y, (X, Y)),
    "unary, array": (lambda x: -x + 0.625, (X,)),
    "ternary": (lambda x, y: (jt if isinstance(x, jt.Var) else np).where(x > y, x, y), (X, X[::-1].copy() * 0.375)),
    "reduce": (lambda x: x.sum(2), (X,)),
    "reindex": (lambda x: x.reindex([4, 129], ["i1", "i0 % 2"]) if isinstance(x, jt.Var) else
                np.stack([x[:, i % 2] for i in range(4)]), (random(129, 2),)),
    "reindex_reduce": (lambda x: x.reindex_reduce("add", [2, 129], ["i1", "i0"]) if isinstance(x, jt.Var) else x.T,
                       (random(129, 2),)),
    "fuse_transpose": (lambda x: x.transpose(0, 2, 1) * 1.375, (random(2, 3, 129),)),
    "transpose": (lambda x: x.transpose(0, 2, 1) + 0 if isinstance(x, np.ndarray) else jt.transpose(x, (0, 2, 1)),
                  (random(2, 3, 129),)),
    "arg_reduce": (lambda x: x.argmax(1) if isinstance(x, np.ndarray) else x.argmax(1)[0], (random(3, 129),)),
    "code": (lambda x: x * 2 if isinstance(x, np.ndarray) else jt.code(
        x.shape, x.dtype, [x], cpu_src="for (int i = 0; i < in0_shape0; i++) out0_p[i] = in0_p[i] * 2;"),
        (random(129),)),
    "getitem": (lambda x: x[1:, ::-2, 3], (random(3, 129, 5),)),
    "getitem of rows": (lambda x, rows: x[rows], (random(5, 129), ROWS)),
    "setitem": (written, (random(5, 129), random(129), slice(1, None, 2))),
    "setitem of rows": (written, (random(5, 129), random(129), ROWS)),
}
FUSED = ("binary, broadcast_to", "unary, array", "ternary", "reduce", "reindex", "reindex_reduce")


@pytest.fixture
def compiled(tmp_path):
    """Tells which libraries this process has had compiled; others may fill the same cache at the same time."""
    script, log, own = tmp_path / "script", tmp_path / "log", jt.flags.python_path
    log.touch()
    script.write_text(f'#!/bin/sh\necho "$3" >> {shlex.quote(str(log))}\nexec {shlex.quote(own)} "$@"\n')
    script.chmod(0o755)
    jt.flags.python_path = str(script)
    yield lambda: [Path(source).with_suffix(".so") for source in log.read_text().splitlines()]
    jt.flags.python_path = own


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_members_are_where_jittor_has_them(name, compiled):
    compute, arrays = CASES[name]
    with jt.flag_scope(compile_options={f"of_{np.random.default_rng().integers(2**60)}": 1}):
        inputs = [jt.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
        jt.sync_all()
        found = compute(*inputs).numpy()
    wanted = compute(*arrays) if name != "fuse_transpose" else arrays[0].transpose(0, 2, 1) * np.float32(1.375)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    made = compiled()
    assert made or name not in FUSED  # the others know no options, and are new where the cache is
    assert not [m for m in made if b"ios_base" in m.read_bytes()], "none was compiled with Jittor's headers"


@pytest.mark.slow
def test_it_is_made_once_and_its_places_are_those_of_this_jittor(tmp_path):
    own = stand_in(tmp_path)
    assert layouts.write_layouts(own) == ""
    made = layouts.folder(own)
    assert [*tmp_path.iterdir()] == [made] and (made / "layouts.h.gch").stat().st_size > 1e5
    assert (made / "layouts.h").read_bytes() == (layouts.folder(jt) / "layouts.h").read_bytes()
    (made / "sign").touch()
    assert layouts.write_layouts(own) == "" and (made / "sign").exists()
    other = stand_in(tmp_path, cc_flags=jt.flags.cc_flags + " -DOTHER")
    assert layouts.write_layouts(other) == ""
    assert [*tmp_path.iterdir()] == [layouts.folder(other)] and layouts.folder(other) != made


@pytest.mark.slow
@pytest.mark.parametrize("text, changed, told", [
    ("sizeof(NanoVector) == 16", "sizeof(NanoVector) == 24", "shapes"), ('"Var* y"', '"NanoVector y"', "BinaryOp.z")])
def test_a_jittor_that_is_laid_out_otherwise(tmp_path, monkeypatch, text, changed, told):
    """Its operators are compiled as before."""
    monkeypatch.setattr(layouts, "TAKEN_FOR_GRANTED", layouts.TAKEN_FOR_GRANTED.replace(text, changed))
    monkeypatch.setitem(layouts.MEMBERS["BinaryOp"], "y", changed.strip('"') if "y" in changed else "Var* y")
    own = stand_in(tmp_path)
    assert told in layouts.write_layouts(own)
    assert not [*tmp_path.iterdir()]


def test_another_compiler_and_a_folder_that_cannot_be_written(tmp_path):
    assert layouts.write_layouts(stand_in(tmp_path, cc_type="clang")) == "" and not [*tmp_path.iterdir()]
    assert "No such file" in layouts.write_layouts(stand_in(Path("/proc/no/such")))


COMPILER = """\
#!/bin/sh
for target; do :; done
case "$*" in
*-iquote*) echo "with layouts: $*" > "$target"; exit {status} ;;
*) echo "with headers: $*" > "$target" ;;
esac
"""


LAYOUTS = "with layouts: -iquote{folder} -include{folder}/layouts.h {source} -O2"


@pytest.mark.parametrize("status, told", [
    (0, "-iquote{folder} -include{folder}/layouts.h -O2\n"),
    (1, "-iquote{folder} -include{folder}/layouts.h -O2\n-O2\n")])
def test_what_is_asked_of_the_assembler(tmp_path, status, told):
    python, source, asked = tmp_path / "python", tmp_path / "an_op.cc", tmp_path / "asked"
    python.write_text(f'#!/bin/sh\nshift 3\necho "$@" >> {asked}\ncase "$*" in *-iquote*) exit {status} ;; esac\n')
    python.chmod(0o755)
    own = stand_in(tmp_path, python_path=str(python))
    assert operators.compile_directly(own) == ""
    layouts.folder(own).mkdir()
    source.write_text("void jittor::FusedOp::jit_run() {\n//@begin replace a b\n}")
    subprocess.run([own.flags.python_path, "/asm_tuner.py", "--cc_path=g++", str(source), "-O2"], check=True)
    assert asked.read_text() == told.format(folder=layouts.folder(own))


@pytest.mark.parametrize("source, status, told", [
    ("void jittor::FusedOp::jit_run() {}", 0, LAYOUTS),
    ("void jittor::FusedOp::jit_run() {}", 1, "with headers: {source} -O2 -include/kept.h"),
    ("void GetitemOp::jit_run() {}", 0, "with layouts"), ("void ArgsortOp::jit_run() {}", 0, "with headers")])
def test_who_gets_it(tmp_path, source, status, told):
    own = stand_in(tmp_path, python_path="python")
    assert operators.compile_directly(own) == ""
    folder, path, compiler, library = (layouts.folder(own), tmp_path / "an op.cc", tmp_path / "compiler",
                                       tmp_path / "out of it.so")
    folder.mkdir()
    path.write_text(source)
    compiler.write_text(COMPILER.format(status=status))
    compiler.chmod(0o755)
    subprocess.run([own.flags.python_path, "/asm_tuner.py", f"--cc_path={compiler}", str(path), "-O2",
                    "-include/kept.h", "-o", str(library)], check=True)
    assert library.read_text().startswith(told.format(folder=folder, source=path))
    assert not [*tmp_path.glob("out of it.so.*")]
