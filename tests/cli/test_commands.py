"""`detr-jittor`: which commands there are, and how faults end."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from detr_jittor.cli import commands as program
from detr_jittor.errors import DetrError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder of commands with two in it."""
    (tmp_path / "train.py").write_text('HELP = "learn"\nraise ImportError("imported for nothing")\n')
    (tmp_path / "plot.py").write_text('HELP: str = ("draw "\n    "curves")\n')
    monkeypatch.setattr(program, "CLI", tmp_path)


def test_only_commands_with_a_file_are_listed(commands, capsys):
    assert program.main(["--help"]) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == [["train", "learn"], ["plot", "draw curves"]]


def test_no_command(commands, capsys):
    assert program.main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_an_unknown_command(commands, capsys):
    assert program.main(["predict"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'predict'. Choose from train, plot.\n"


@pytest.mark.parametrize("fault, line, status", [
    (DetrError("a.json: broken.", "Mend it."), "error: a.json: broken. Mend it.\n", 2),
    (KeyboardInterrupt(), "interrupted\n", 130),
    (OSError(errno.ENOSPC, "No space left", "a.png"), "error: a.png: No space left. Make room.\n", 2),
    (OSError(errno.EDQUOT, "Quota exceeded"), "error: the output: Quota exceeded. Make room.\n", 2),
])
def test_a_fault_is_one_line(monkeypatch, capsys, fault, line, status):
    def run(args):
        raise fault

    monkeypatch.setattr("detr_jittor.cli.doctor.run", run)
    assert program.main(["doctor"]) == status
    assert capsys.readouterr().err == line


def test_every_command_has_its_help():
    names = program.commands()
    assert names and all(program.help_line(module) for module in names.values())


def test_the_overview_imports_no_framework():
    code = ("import sys; from detr_jittor.__main__ import main; main(['--help']); "
            "print(sorted({'jittor', 'torch', 'numpy', 'scipy'} & sys.modules.keys()))")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves():
    """`detr-jittor … | head`: no traceback when nobody reads any more."""
    program = ("import sys, detr_jittor.cli.convert as c; from detr_jittor.__main__ import main; "
               "c.run = lambda args: [print('x' * 1000) for _ in range(10_000)]; sys.exit(main(['convert', 'a', 'b']))")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 141 and process.stderr.read() == b""


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_an_overview_that_nobody_reads(arguments):
    """As of `detr-jittor --help | head -1`."""
    process = subprocess.Popen([sys.executable, "-m", "detr_jittor", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (141, "")
    process.stderr.close()
