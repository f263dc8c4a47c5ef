"""What a run says of itself: log.txt and eval_summary.txt, trackers, the progress bar, a line an epoch, curves."""

import contextlib
import math
import sys
from pathlib import Path

from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.engine.averages import BY_OBJECT
from detr_jittor.engine.place import Place, pictures_a_step
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.results import Results
from detr_jittor.evaluate.summary import number
from detr_jittor.report.log import RunLog, read_log, write_whole
from detr_jittor.report.progress import Progress, duration, peak_memory
from detr_jittor.report.replacing import replacing
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.loss_terms import loss_weights
from detr_jittor.types import Batch, Classes

TRAIN_BATCH, VAL_BEST = "train_batch.jpg", "val_best.jpg"
ON_SHEET = 16  # pictures on the sheet of a run's beginning


class Reporting:
    """Args of the class: folder: the run's; None: nothing is written. quiet: no progress bar."""

    def __init__(self, config: Config, twin: Twin, place: Place, folder: Path | None, quiet: bool):
        self.config, self.twin, self.place, self.folder, self.quiet = config, twin, place, folder, quiet
        self.weights = loss_weights(config)
        self.log: RunLog | None = None
        self.first: list[Batch] | None = None  # batches for the sheet of the run's beginning, until it is drawn
        self.best: tuple[Results, CocoIndex] | None = None  # of this process

    def open(self, goes_on: bool = False) -> None:
        """Continue the folder's logs at the run's place, and write its settings.

        Args:
            goes_on: whether the run's earlier logs are in the folder.
        """
        if self.folder:
            self.log = RunLog(self.folder, self.place.epoch + 1, self.config.run.trackers, self.config.flat(), goes_on)
            self.first = None if (self.folder / TRAIN_BATCH).exists() else []
            write_whole(self.folder / "config.json", self.config.to_json())

    def close(self) -> None:
        if self.log:
            self.log.close()

    def progress(self) -> Progress:
        return Progress(f"epoch {self.place.epoch + 1}", self.place.epoch_length, self.place.batches, self.quiet)

    def step(self, losses: dict[str, float], batch: Batch, lr_factor: float) -> None:
        """Take in what a step says."""
        rest = {"lr": self.config.optim.lr * lr_factor, "grad_norm": losses["grad_norm"]}
        self.place.averages.add(rest)
        values = {**rest, **self.place.averages.add_step(losses, self.weights, batch)}
        if self.log:
            self.log.step(self.place.step, {n: values[n] for n in ("loss", "class_error", "lr", "grad_norm")})

    def batch(self, batch: Batch, classes: Classes) -> None:
        """Keep the first batches, as they are augmented, and draw them once there are enough for a sheet."""
        if self.first is None:
            return
        self.first.append(batch)
        if sum(map(len, self.first)) >= ON_SHEET:
            self.draw_batches(classes)

    def draw_batches(self, classes: Classes) -> None:
        """Draw what was kept, if it is not drawn yet."""
        if not self.first:
            return
        from detr_jittor.data.batch_sheet import batch_sheet  # matplotlib's fonts: most of a second

        with self.on_disk("the sheet of batches"), replacing(self.folder / TRAIN_BATCH) as temporary:
            batch_sheet(self.first, classes).save(temporary, "jpeg", quality=90)
        self.first = None

    def draw_best(self, results: Results, index: CocoIndex) -> None:
        """Draw what the best checkpoint so far finds in some pictures of the validation split."""
        if self.folder is None or results.mistakes is None:
            return
        from detr_jittor.evaluate.mistakes_page import write_sheet  # matplotlib's fonts

        self.best = results, index
        with self.on_disk("the validation pictures"):
            write_sheet(self.folder / VAL_BEST, results.mistakes.sample, index)

    def draw_mistakes(self) -> None:
        """Write the page of what the best checkpoint of this process gets wrong."""
        if self.best:
            from detr_jittor.evaluate.mistakes_page import write_mistakes

            with self.on_disk("what went wrong"):
                write_mistakes(self.folder, *self.best)

    @contextlib.contextmanager
    def on_disk(self, what: str):
        """What cannot be drawn is said; the run goes on without it."""
        try:
            yield
        except (OSError, DetrError) as error:
            print(f"warning: {self.folder}: {what} cannot be drawn ({getattr(error, 'strerror', None) or error}).",
                  file=sys.stderr)

    def shown(self) -> dict[str, str]:
        """What the progress bar says."""
        means, size = self.place.averages.entries(), pictures_a_step(self.config)
        last = self.config.optim.epochs * self.place.epoch_length
        left = min(last, self.config.optim.max_steps or last) - self.place.step
        return {
            "loss": f"{means.get('loss', math.nan):.3f}",
            "class error": f"{means.get(BY_OBJECT, math.nan):.1f} of {means.get('objects', 0):,}",
            "lr": f"{means.get('lr', math.nan):.1e}", "images/s": f"{size / means['step_time']:.1f}",
            "ETA": duration(max(0, left) * means["step_time"]), "data": f"{1000 * means['data_time']:.0f} ms",
            "memory": f"{peak_memory():.0f} MB",
        }

    @property
    def mean_loss(self) -> float:
        """Of the epoch so far."""
        return self.place.averages.entries().get("loss", math.nan)

    def epoch(self, results: Results | None, measured: dict) -> None:
        """Log an epoch and say it in a line.

        Args:
            results: of the validation split, if it was evaluated.
            measured: the entries of log.txt on what was evaluated.
        """
        record = self.record(measured)
        if self.log:
            self.log.epoch(record, results.line(record["epoch"]) if results else None)
        self.tell(record, results)

    def record(self, measured: dict) -> dict:
        """What log.txt says about an epoch: the reference code's keys, then ours."""
        means = self.place.averages.entries()
        data_time, step_time = means.pop("data_time", 0.0), means.pop("step_time", 0.0)
        return {
            **{f"train_{name}": value for name, value in means.items()},
            **measured, "epoch": self.place.epoch + 1, "n_parameters": self.twin.n_parameters,
            "step": self.place.step, "train_data_time": data_time, "train_step_time": step_time,
            "train_seconds": self.place.averages.total("step_time"), "peak_memory_mb": peak_memory(),
        }

    def tell(self, record: dict, results: Results | None) -> None:
        """An epoch in one line."""
        head = f"[train] epoch={record['epoch']:>3}"
        if results:
            head = f"{results.line(record['epoch'])} | best {number(self.place.best_ap)}"
        losses = {"loss": "train_loss", "test loss": "test_loss"}
        shown = " | ".join(f"{name} {record[key]:.3f}" for name, key in losses.items() if key in record)
        times = " + ".join(duration(record[f"{name}_seconds"]) for name in ("train", "test", "train_eval")
                           if f"{name}_seconds" in record)
        print(f"{head} | {shown} | {times} | data {1000 * record['train_data_time']:.0f} ms a step "
              f"| memory {record['peak_memory_mb']:.0f} MB", flush=True)

    def draw_curves(self) -> None:
        """Draw the log. Where that is not possible, the run has still reached its end."""
        if self.folder is None or not (self.folder / "log.txt").exists():
            return
        from detr_jittor.report.plot import plot_performance, plot_training_loss  # matplotlib: most of a second

        logs = {self.twin.name: read_log(self.folder / "log.txt")}
        try:
            plot_training_loss(logs, self.folder / "training_loss_comparison.png")
            plot_performance(logs, self.folder / "performance_comparison.png")
        except OSError as error:
            print(f"warning: {self.folder}: the curves cannot be drawn ({error.strerror or error}); "
                  "detr-jittor plot draws them later.", file=sys.stderr)
