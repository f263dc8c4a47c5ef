"""What stands between Python and Jittor's core: looked up where it was written before, and only there."""

import sys
from types import SimpleNamespace

import pytest

from detr_jittor.jt.setup import bindings

WRITER = '''
asked = []

def compile_src(src, h, basename):
    asked.append(basename)
    return f"{src} of {h}" if src else None
'''


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(rules=…): the writer as one process sees it, and what keeps what it wrote."""
    package, cache = tmp_path / "site" / "jittor", tmp_path / "cache"
    package.mkdir(parents=True)
    cache.mkdir()
    utils = SimpleNamespace(__file__=str(tmp_path / "site" / "jittor_utils" / "__init__.py"), cache_path=str(cache))

    def begin(rules: str = WRITER):
        monkeypatch.delitem(sys.modules, bindings.NAME, raising=False)
        (package / "pyjt_compiler.py").write_text(rules)
        keep = bindings.install(utils)
        return sys.modules[bindings.NAME], keep

    real = sys.modules.get(bindings.NAME)
    yield begin
    sys.modules.pop(bindings.NAME, None)
    if real:
        sys.modules[bindings.NAME] = real


def test_written_once(start):
    writer, keep = start()
    assert writer.compile_src("int a;", "a.h", "a") == "int a; of a.h" and writer.compile_src("", "b.h", "b") is None
    keep()
    writer, _ = start()
    assert writer.compile_src("int a;", "a.h", "a") == "int a; of a.h" and writer.compile_src("", "b.h", "b") is None
    assert writer.asked == []


@pytest.mark.parametrize("header", [("int b;", "a.h", "a"), ("int a;", "b.h", "a"), ("int a;", "a.h", "b")])
def test_another_header_is_read(start, header):
    writer, keep = start()
    writer.compile_src("int a;", "a.h", "a")
    keep()
    writer, _ = start()
    assert writer.compile_src(*header) == f"{header[0]} of {header[1]}" and writer.asked == [header[2]]


def test_other_rules_write_anew(start):
    writer, keep = start()
    writer.compile_src("int a;", "a.h", "a")
    keep()
    writer, _ = start(WRITER.replace(" of ", " from "))
    assert writer.compile_src("int a;", "a.h", "a") == "int a; from a.h"


def test_a_damaged_or_lost_file_is_written_anew(start, tmp_path):
    (tmp_path / "cache" / "detr_bindings.json").write_text("{")
    writer, keep = start()
    assert writer.compile_src("int a;", "a.h", "a") == "int a; of a.h"
    (tmp_path / "cache" / "detr_bindings.json").unlink()
    (tmp_path / "cache").rmdir()
    keep()  # nothing can be kept, and that is all


def test_an_imported_jittor_is_left_alone(start, tmp_path):
    writer, _ = start()
    asked = writer.compile_src
    bindings.install(SimpleNamespace(__file__=str(tmp_path / "site" / "jittor_utils" / "__init__.py"),
                                     cache_path=str(tmp_path)))()
    assert sys.modules[bindings.NAME].compile_src is asked
