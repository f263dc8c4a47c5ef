"""`detr-jittor plot`: the curves of any number of logs."""

import argparse
import contextlib
import json
from collections import Counter
from pathlib import Path

from detr_jittor.errors import DetrError, writing
from detr_jittor.report.log import read_log
from detr_jittor.report.plot import Log, plot_performance, plot_training_loss

HELP = "draw training loss and average precision of any number of logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("logs", nargs="+", metavar="[LABEL=]LOG", help="log.txt of a run, or the folder that holds it; "
                        "the curve is called LABEL, or like the folder")
    parser.add_argument("--output_dir", required=True, metavar="D", help="folder for the two pictures")


def run(args: argparse.Namespace) -> int:
    paths = labelled(args.logs)
    logs = {label: read_whole(path) for label, path in paths.items()}
    folder = Path(args.output_dir)
    with writing(f"{folder}:", "Choose another --output_dir."):
        folder.mkdir(parents=True, exist_ok=True)
        for name, plot in (("training_loss_comparison.png", plot_training_loss),
                           ("performance_comparison.png", plot_performance)):
            plot(logs, folder / name)
            print(folder / name)
    return 0


def labelled(arguments: list[str]) -> dict[str, Path]:
    """{label: log file}. Logs without a label are called like their folder, or by their path if folders share a name.

    Errors: DetrError if a label is given twice.
    """
    given: list[tuple[str | None, Path]] = []
    for argument in arguments:
        label, equals, path = argument.partition("=")
        if not equals or not label or Path(argument).exists():
            label, path = None, argument
        given.append((label, Path(path) / "log.txt" if Path(path).is_dir() else Path(path)))
    folders = Counter(folder_name(path) for label, path in given if label is None)
    paths: dict[str, Path] = {}
    for label, path in given:
        if label is None:
            label = folder_name(path) if folders[folder_name(path)] == 1 else str(path)
        if label in paths:
            raise DetrError(f"the label {label!r} is given twice.", "Name the logs with LABEL=LOG.")
        paths[label] = path
    return paths


def folder_name(path: Path) -> str:
    """What a log is called: its folder, or itself if it has a name of its own."""
    return path.absolute().parent.name if path.name == "log.txt" else path.stem


def read_whole(path: Path) -> Log:
    """The records of a log; says so if its last line is still being written or was cut off, and is left out."""
    log = read_log(path)
    with contextlib.suppress(OSError):
        if not is_whole(path.read_text(encoding="utf-8")):
            print(f"{path}: the last line is not complete; read up to epoch {log[-1].get('epoch')}")
    return log


def is_whole(text: str) -> bool:
    """Whether the last line has its end, or is a whole record without one, as an editor can leave it."""
    if text.endswith("\n"):
        return True
    try:
        return isinstance(json.loads(text.splitlines()[-1]), dict)
    except (ValueError, RecursionError):
        return False
