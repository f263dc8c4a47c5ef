"""How a run shows that it goes on: a bar in a terminal or a notebook, a few lines elsewhere."""

import resource
import sys
import time

from tqdm import tqdm

from detr_jittor.report.notebook import in_notebook

SECONDS_BETWEEN = 30  # from line to line where stderr is no terminal


class Progress:
    """The progress through one epoch's batches, on stderr."""

    def __init__(self, title: str, total: int, done: int = 0, quiet: bool = False):
        """
        Args:
            total: batches of the epoch.
            done: those that an earlier process has done.
            quiet: show nothing.
        """
        self.title, self.total, self.done = title, total, done
        self.quiet = quiet
        self.shown = time.monotonic()
        self.bar = None
        if (sys.stderr.isatty() or in_notebook()) and not quiet:
            self.bar = tqdm(total=total, initial=done, desc=title, dynamic_ncols=sys.stderr.isatty(),
                            bar_format="{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} {postfix}")

    def update(self, values: dict[str, str]) -> None:
        """One batch more; `values` are shown as they stand."""
        self.done += 1
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif not self.quiet and time.monotonic() - self.shown >= SECONDS_BETWEEN:
            self.shown = time.monotonic()
            print(f"{self.title} {self.done}/{self.total}  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def duration(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def peak_memory() -> float:
    """The most memory that this process has held so far, in MB (its workers not counted)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024 ** 2)
