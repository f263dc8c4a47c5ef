"""How Jittor's core is compiled: its own sources, in less time; and a core that was made otherwise stays as it is."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from detr_jittor.jt.setup import core


def command(source: str, cache: Path, flags: str = " -Wall -std=c++14 -fPIC  -O2  ") -> str:
    """As Jittor 1.3.11 writes it."""
    return f'"g++" "{source}" {flags}  -c -o "{cache}/obj_files/{Path(source).name}.o"'


SOURCES = ("/j/src/var.cc", "/j/src/opt/expr.cc", "/c/gen/pyjt_jit_op_maker.cc", "/j/src/ops/op_utils.cc")


@pytest.fixture
def utils(tmp_path):
    """A stand-in for jittor_utils that keeps what it is to run, with what lay in the cache at that time."""
    ran = []

    def run(commands, cache_path, jittor_path, msg="run_cmds"):
        ran.append((msg, [*commands], sorted(p.name for p in Path(cache_path).glob("core_headers_*"))))

    return SimpleNamespace(cc_type="g++", run_cmds=run, get_total_mem=lambda: 2**40, ran=ran, cc=None,
                           try_import_jit_utils_core=lambda silent=None: None)


def compile_core(utils, cache: Path, msg: str = "Compiling jittor_core") -> list[str]:
    utils.run_cmds([command(source, cache) for source in SOURCES], str(cache), "/j", msg)
    return utils.ran[-1][1]


def test_what_computes_keeps_its_level_and_the_longest_comes_first(utils, tmp_path, monkeypatch):
    monkeypatch.setattr(core, "TEXT", "#include <vector>\n")
    core.install(utils)
    first, *others = compile_core(utils, tmp_path)
    assert "/c/gen/pyjt_jit_op_maker.cc" in first
    assert all((" -O1 " in c) != (" -O2 " in c) for c in (first, *others))
    levels = {c.split('"')[3]: "-O1" if " -O1 " in c else "-O2" for c in (first, *others)}
    assert levels == {"/j/src/var.cc": "-O2", "/j/src/opt/expr.cc": "-O1", "/c/gen/pyjt_jit_op_maker.cc": "-O1",
                      "/j/src/ops/op_utils.cc": "-O2"}
    for c in (first, *others):
        header = tmp_path / f"core_headers_{levels[c.split(chr(34))[3]][1:]}.h"
        assert f'-include"{header}" -c -o "{tmp_path}/obj_files/' in c and header.read_text() == "#include <vector>\n"
    # kept compiled while it was needed, and gone now: 80 MB each
    names = ["core_headers_O1.h", "core_headers_O2.h"]
    assert [name for name in utils.ran[0][2] if name.endswith("gch")] == [f"{name}.gch" for name in names]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_what_nvcc_compiles_is_left_alone(tmp_path):
    nvcc = f'"/cuda/bin/nvcc"  "/j/src/misc/nan_checker.cu"  -O2   -c -o "{tmp_path}/obj_files/nan_checker.cu.o"'
    assert core.change(nvcc, tmp_path) == nvcc


def test_the_same_commands_at_the_next_start_and_nothing_kept_for_it(utils, tmp_path, monkeypatch):
    monkeypatch.setattr(core, "TEXT", "#include <vector>\n")
    core.install(utils)
    before = compile_core(utils, tmp_path)
    (tmp_path / "obj_files").mkdir()
    for source in SOURCES:
        (tmp_path / "obj_files" / f"{Path(source).name}.o").touch()
    (tmp_path / "jittor_core.cpython-311-x86_64-linux-gnu.so").touch()
    assert compile_core(utils, tmp_path) == before
    assert utils.ran[-1][2] == ["core_headers_O1.h", "core_headers_O2.h"]


def test_a_core_that_was_made_otherwise_stays(utils, tmp_path):
    (tmp_path / "jittor_core.cpython-311-x86_64-linux-gnu.so").touch()
    core.install(utils)
    assert compile_core(utils, tmp_path) == [command(source, tmp_path) for source in SOURCES]
    assert [p.name for p in tmp_path.iterdir()] == ["jittor_core.cpython-311-x86_64-linux-gnu.so"]


def test_operators_are_not_its_business(utils, tmp_path):
    core.install(utils)
    assert compile_core(utils, tmp_path, "Compiling gen_ops") == [command(source, tmp_path) for source in SOURCES]


def test_headers_that_cannot_be_compiled_leave_all_as_jittor_has_it(utils, tmp_path, monkeypatch):
    monkeypatch.setattr(core, "TEXT", "#include <no/such/header>\n")
    core.install(utils)
    assert compile_core(utils, tmp_path) == [command(source, tmp_path) for source in SOURCES]
    assert utils.ran[-1][2] == [] and [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("cc_type, cc_flags", [("clang", None), ("g++", "-O3")])
def test_another_compiler_or_flags_of_ones_own_are_left_alone(utils, monkeypatch, cc_type, cc_flags):
    utils.cc_type, before = cc_type, utils.run_cmds
    if cc_flags:
        monkeypatch.setenv("cc_flags", cc_flags)
    core.install(utils)
    assert utils.run_cmds is before


def test_no_more_compilers_than_processors(utils, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    core.install(utils)
    assert utils.get_total_mem() // 2**30 // 3 == 2


@pytest.fixture
def library(utils, tmp_path):
    """jit_utils_core as an empty cache has it: compiled, not yet loaded, without a note of its command."""
    file = tmp_path / "jit_utils_core.so"
    file.write_text("compiled")

    def compile_again(command, *_):
        file.unlink()  # as the linker does
        file.write_text(f"compiled by {command}")
        Path(f"{file}.key").write_text(command)
        return True

    def load(silent=None):
        utils.cc = utils.cc or SimpleNamespace(__file__=str(file), cache_compile=compile_again)

    utils.try_import_jit_utils_core = load
    return file


def test_the_library_that_is_loaded_stays_and_has_its_note(utils, library):
    """Or the core would load another one of the same name beside it."""
    core.install(utils)
    utils.try_import_jit_utils_core()
    loaded = library.stat().st_ino
    assert utils.cc.cache_compile("g++ …", "/c", "/j") is True
    assert (library.stat().st_ino, library.read_text()) == (loaded, "compiled")
    assert Path(f"{library}.key").read_text() == "g++ …"
    assert sorted(p.name for p in library.parent.iterdir()) == ["jit_utils_core.so", "jit_utils_core.so.key"]
    utils.cc.cache_compile("g++ -another", "/c", "/j")
    assert library.read_text() == "compiled by g++ -another", "what is compiled after a change is a new one"


def test_what_has_its_note_is_left_alone(utils, library, monkeypatch):
    Path(f"{library}.key").write_text("g++ …")
    core.install(utils)
    utils.try_import_jit_utils_core(True)
    assert utils.cc.cache_compile.__name__ == "compile_again" and not Path(f"{library}.loaded").exists()


def test_a_disk_without_second_names(utils, library, monkeypatch):
    monkeypatch.setattr(core.os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("not here")))
    core.install(utils)
    utils.try_import_jit_utils_core()
    assert utils.cc.cache_compile("g++ …", "/c", "/j") is True and library.read_text() == "compiled by g++ …"
