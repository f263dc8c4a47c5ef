"""What a run writes as it goes: log.txt, eval_summary.txt and what its trackers are told; and reading log.txt again."""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from detr_jittor.config.format import FORMAT, unknown
from detr_jittor.errors import DetrError, writing
from detr_jittor.report.replacing import replacing
from detr_jittor.report.trackers import Trackers

STEPS_BETWEEN = 50  # training steps from one point of the trackers' curves to the next


class RunLog:
    """The logs in a run's folder.

    log.txt holds one JSON object an epoch, with the reference code's keys; eval_summary.txt one line an epoch.
    """

    def __init__(self, folder: Path, first_epoch: int = 0, track: Sequence[str] = ("tensorboard",),
                 settings: dict | None = None, goes_on: bool = False):
        """Continue the folder's logs. Lines of epochs from `first_epoch` on are removed: these epochs run (again).

        Args:
            track, settings, goes_on: as `Trackers` takes them.
        """
        self.folder = folder
        with writing(f"{folder}: the log"):
            keep_lines(folder / "log.txt", first_epoch, lambda line: json.loads(line)["epoch"])
            keep_lines(folder / "eval_summary.txt", first_epoch,
                       lambda line: int(re.search(r"epoch= *(\d+)", line)[1]))
        self.trackers = Trackers(list(track), folder, settings or {}, goes_on)

    def step(self, step: int, values: dict[str, float]) -> None:
        """The trackers' points within an epoch, at every 50th step."""
        if step % STEPS_BETWEEN == 0:
            self.trackers.add("step", step, values)

    def epoch(self, record: dict, summary_line: str | None) -> None:
        """The record of an epoch, and its line in eval_summary.txt. Errors: DetrError if they cannot be written."""
        with writing(f"{self.folder}: the log"):
            append(self.folder / "log.txt", json.dumps({**record, "format": FORMAT}))
            if summary_line:
                append(self.folder / "eval_summary.txt", summary_line)
        self.trackers.add("epoch", record["epoch"], flat(record))

    def close(self) -> None:
        self.trackers.close()


def append(path: Path, line: str) -> None:
    """Add a line, on the disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Errors: DetrError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetrError(f"{folder}: cannot be made ({error.strerror}).", "Choose another --output_dir.") from None


def write_whole(path: Path, text: str) -> None:
    """Write a small file whole or not at all. Errors: DetrError."""
    with writing(f"{path}:"), replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def keep_lines(path: Path, first_epoch: int, epoch_of: Callable[[str], int]) -> None:
    """Rewrite a log without the lines of epochs from `first_epoch` on, nor what a killed run left half-written."""
    if not path.exists():
        return

    def stays(line: str) -> bool:
        try:
            return epoch_of(line) < first_epoch
        except (ValueError, KeyError, TypeError):
            return False

    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    write_whole(path, "".join(line + "\n" for line in lines if stays(line)))


def flat(record: dict) -> dict[str, float]:
    """The numbers of a record, those in lists by their place: {"test_coco_eval_bbox/0": …}."""
    numbers = {}
    for name, value in record.items():
        values = {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
        numbers |= {n: v for n, v in values.items() if isinstance(v, (int, float))}
    return numbers


def read_log(path: str | Path) -> list[dict]:
    """One record an epoch, in the order of the file; the same from the reference code's log.txt.

    A broken last line without its end, as a killed run can leave it, is no record.

    Errors: DetrError if the file cannot be read or a line is no JSON object.
    """
    fix = "Pass the log.txt that a run wrote."
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DetrError(f"{path}: cannot be read ({error}).", fix) from None
    records = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not line.endswith("\n"):
                break
            raise DetrError(f"{path}, line {number}: not valid JSON ({error}).", fix) from None
        if not isinstance(record, dict):
            raise DetrError(f"{path}, line {number}: not a JSON object.", fix)
        if why := unknown(record.pop("format", None)):
            raise DetrError(f"{path}, line {number}: {why}.", "Update this program.")
        records.append(record)
    if not records:
        raise DetrError(f"{path}: holds no epoch.", fix)
    return records
