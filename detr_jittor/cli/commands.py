"""`detr-jittor COMMAND`: finds the command's file in this folder and imports only that one."""

import argparse
import ast
import importlib
import io
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from detr_jittor.errors import DetrError, is_out_of_memory, tell

COMMANDS = {  # in the order of --help
    "demo": "demo", "train": "train", "evaluate": "evaluate", "predict": "predict", "dataset": "dataset",
    "plot": "plot", "app": "app", "watch": "watch", "doctor": "doctor", "align": "align", "compare": "compare",
    "bench": "bench", "convert": "convert", "verify-official": "verify_official", "export": "export", "card": "card",
}
CLI = Path(__file__).parent


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error, without the list of all options."""

    def error(self, message: str):
        raise DetrError(f"{message}.", f"{self.prog} --help lists the options.")


def commands() -> dict[str, str]:
    """{command: module} for the commands whose file is there."""
    return {name: module for name, module in COMMANDS.items() if (CLI / f"{module}.py").is_file()}


def help_line(module: str) -> str:
    """The HELP of a command, read without importing the command and all that it needs."""
    for node in ast.parse((CLI / f"{module}.py").read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if getattr(target, "id", "") == "HELP":
            return ast.literal_eval(node.value)
    return ""


def overview() -> str:
    lines = [f"  {name:<16} {help_line(module)}" for name, module in commands().items()]
    pages = f" The manual: {place}" if (place := manual()) else ""
    return "\n".join(["usage: detr-jittor COMMAND [options]", "", *lines, "",
                      f"detr-jittor COMMAND --help lists the options.{pages}"])


def manual() -> Path | None:
    """The index of the documentation: beside the package in a clone, else where pip has put it."""
    if (beside := CLI.parents[1] / "docs" / "index.md").is_file():
        return beside
    try:
        files = metadata.files("detr-jittor") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(f.locate()).resolve() for f in files if f.as_posix().endswith("detr-jittor/docs/index.md")), None)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns: its exit status; 2 for a fault of the input, which is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal has no letters for is escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(overview(), flush=True)
            return 0 if arguments else 2
        name = arguments[0]
        if name not in commands():
            print(f"error: there is no command {name!r}. Choose from {', '.join(commands())}.", file=sys.stderr)
            return 2
        command = importlib.import_module(f"detr_jittor.cli.{commands()[name]}")
        parser = Parser(prog=f"detr-jittor {name}", description=command.HELP)
        command.add_arguments(parser)
        return command.run(parser.parse_args(arguments[1:]))
    except (DetrError, KeyboardInterrupt) as error:
        return tell(error)
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return tell(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return tell(error)


def end(status: int) -> NoReturn:
    """End the program with this status.

    One of several that torchrun has started ends without what its libraries do at an exit: all work is done, and
    threads of theirs may still run. One such process was aborted there, in a run of all tests on a Zen 3; the cause was
    not found. MPI asks for that exit, so Jittor's processes have it.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and "OMPI_COMM_WORLD_SIZE" not in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
