"""The training loop: epochs, steps, and what is written on the way."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator

from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.engine.averages import BY_OBJECT, Averages, loss_weights
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.evaluation import evaluate_split
from detr_jittor.engine.expectation import expectation
from detr_jittor.engine.signals import StopRequest
from detr_jittor.errors import DetrError, SharedError
from detr_jittor.evaluate.results import Results
from detr_jittor.evaluate.summary import number
from detr_jittor.report.log import RunLog, read_log, write_whole
from detr_jittor.report.progress import Progress, duration, peak_memory
from detr_jittor.twin import seeding
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.twin.schedule import lr_factor
from detr_jittor.types import Batch


class Training:
    """A run: the twin, the data, and where in the run it is."""

    def __init__(self, config: Config, twin: Twin, train_data: CocoIndex, val_data: CocoIndex,
                 folder: RunFolder | None, stop: StopRequest, processes: Processes = ALONE):
        self.config, self.twin, self.folder, self.stop, self.processes = config, twin, folder, stop, processes
        self.train_data = train_data
        data, size, seed, masks = config.data, config.optim.batch_size, config.run.seed, config.model.masks
        shard = processes.rank, processes.size
        self.train_loader = Loader(train_data, data, size * config.optim.accumulate, True, seed, masks, *shard)
        self.evaluated = {"test": val_data}  # the beginning of their names in the log → pictures
        if config.run.eval_train:
            self.evaluated["train_eval"] = train_data.first(config.run.eval_train)
        self.eval_loaders = {name: Loader(index, data, size, False, seed, masks, *shard)
                             for name, index in self.evaluated.items()}
        self.bad_images = BadImages(data.max_bad_images, quiet=processes.rank > 0)
        self.weights = loss_weights(config)
        self.epoch = config.run.start_epoch - 1  # the last one that is finished
        self.batches = 0  # done of the epoch after it
        self.step, self.saved_step = 0, 0
        self.averages = Averages()  # of the epoch after it
        self.best_ap, self.since_best = -1.0, 0  # evaluations
        self.unsaved: DetrError | None = None  # why the newest state is not on the disk
        self.log: RunLog | None = None
        self.stopped: int | None = None  # the exit status, once all processes know that they are to stop

    def close(self) -> None:
        self.train_loader.close()
        for loader in self.eval_loaders.values():
            loader.close()
        if self.log:
            self.log.close()

    def go_on_from(self, found: tuple[str, Checkpoint] | None) -> None:
        """Take over a checkpoint's place in the run, and open the logs."""
        continues = False
        self.from_detector = found is not None or self.config.run.frozen_weights is not None
        if found and found[1].state.optimizer:
            file, checkpoint = found
            continues = self.folder is not None and self.folder.holds(file)
            self.epoch, self.step, self.saved_step = checkpoint.epoch, checkpoint.step, checkpoint.step
            self.best_ap, self.since_best = checkpoint.best_ap, checkpoint.since_best
            self.take_up_epoch(checkpoint)
        if self.folder and not self.finished():
            if not continues and (earlier := self.folder.set_aside()):
                print(f"What an earlier run left in {self.folder.path} is in {earlier} now.")
            self.log = RunLog(self.folder.path, self.epoch + 1)
            write_whole(self.folder.path / "config.json", self.config.to_json())

    def take_up_epoch(self, checkpoint: Checkpoint) -> None:
        """Go on within an epoch, if its batches are still the same ones."""
        if not checkpoint.batches:
            return
        old, new = checkpoint.config, self.config
        if (old is None or pictures_a_step(old) != pictures_a_step(new) or old.run.seed != new.run.seed
                or checkpoint.epoch_length != len(self.train_loader)):
            print(f"The data, the batch size or the seed has changed: epoch {self.epoch + 1} starts anew.")
            return
        self.batches, self.averages = checkpoint.batches, Averages(checkpoint.sums)

    def run(self) -> int:
        """All epochs that are left. Returns: the exit status."""
        if self.finished():
            print(f"Nothing left to train: {self.epoch + 1} epochs and {self.step} steps are done.")
        else:
            print(expectation(self.config, len(self.train_data), len(self.train_loader), self.from_detector))
        try:
            while not self.finished():
                if not self.one_epoch():
                    return self.stopped
        except (DetrError, OSError):  # OSError: what is printed goes to a full disk
            if self.step > self.saved_step:
                self.save()
            raise
        if self.is_stale():
            print(f"No better AP in {self.since_best} evaluations: stopped early.")
        self.bad_images.tell()
        if self.unsaved:
            raise self.unsaved
        self.draw_curves()
        return 0

    def finished(self) -> bool:
        return self.epoch + 1 >= self.config.optim.epochs or self.at_last_step() or self.is_stale()

    def is_stale(self) -> bool:
        """Whether --early_stop ends the run."""
        return 0 < self.config.optim.early_stop <= self.since_best

    def at_last_step(self) -> bool:
        return self.config.optim.max_steps is not None and self.step >= self.config.optim.max_steps

    def one_epoch(self) -> bool:
        """Train on the rest of an epoch, evaluate if it is time to, log and save. Returns: false if interrupted."""
        self.train_batches()
        if self.batches == len(self.train_loader) and "loss" not in self.averages.sums:
            raise SharedError(f"epoch {self.epoch + 1}: not one batch had pictures that could be read, so nothing was "
                              "learned.", "Look at what is said of them above.")
        due = self.evaluation_is_due()
        if due or self.stopped:
            self.save()  # evaluation can fail, or take long
        if self.stopped:
            return False
        evaluated = self.evaluate() if due else (None, {})
        if evaluated is None:
            return False
        results, tested = evaluated
        best = results is not None and results.ap > self.best_ap
        self.best_ap = results.ap if best else self.best_ap
        if results is not None:
            self.since_best = 0 if best else self.since_best + 1
        record = self.record(tested)
        if self.log:
            self.log.epoch(record, results.line(record["epoch"]) if results else None)
        self.tell(record, results)
        if self.batches == len(self.train_loader):
            self.epoch, self.batches, self.averages = self.epoch + 1, 0, Averages()
        self.save()
        self.name_checkpoint(best)
        return True

    def evaluation_is_due(self) -> bool:
        done, last = self.epoch + 2, self.config.optim.epochs  # epochs, with the one that ends now
        return done % self.config.run.eval_every == 0 or done >= last or self.at_last_step()

    def evaluate(self) -> tuple[Results, dict] | None:
        """What is measured on the validation split, and the entries of log.txt; None if it was interrupted."""
        measured, entries = {}, {}
        for name, data in self.evaluated.items():
            began = time.monotonic()
            results, averages = evaluate_split(self.twin, self.eval_loaders[name], data, self.config, self.bad_images,
                                               self.stop, self.processes)
            if results is None:
                self.agree([])
                return None
            measured[name] = results
            entries |= {f"{name}_{loss}": value for loss, value in averages.entries().items()}
            entries |= {f"{name}_{key}": value for key, value in results.log_entries().items()}
            entries[f"{name}_seconds"] = time.monotonic() - began
        return measured["test"], entries

    def train_batches(self) -> None:
        """The batches of an epoch that are left, or fewer if the run is to end."""
        epoch, total = self.epoch + 1, len(self.train_loader)
        save_every = self.config.run.save_every_steps
        with contextlib.closing(Progress(f"epoch {epoch}", total, self.batches, self.processes.rank > 0)) as progress:
            for batch, waited in timed(self.train_loader.epoch(epoch, self.batches)):
                if self.at_last_step():
                    return
                began = time.monotonic()
                all_have_pictures = self.agree(batch.bad_images, len(batch) > 0)
                if self.stopped:
                    return
                if all_have_pictures:
                    self.train_batch(batch, epoch)
                self.step, self.batches = self.step + 1, self.batches + 1
                self.averages.add({"data_time": waited, "step_time": waited + time.monotonic() - began})
                progress.update(self.shown())
                if save_every and self.step % save_every == 0:
                    self.save()
        self.agree([])

    def agree(self, bad_images: list[str], go_on: bool = True) -> bool:
        """Exchange between the processes whether to stop and which pictures could not be read. Returns: all `go_on`.

        A step in which one of several processes has no picture at all is left out by all of them.
        """
        told = self.processes.gather((self.stop.status, bad_images, go_on))
        self.stopped = self.stopped or next((status for status, *_ in told if status), None)
        try:
            self.bad_images.add([reason for _, reasons, _ in told for reason in reasons])
        except DetrError as error:
            raise SharedError(error.what, error.fix) from None
        return all(yes for *_, yes in told)

    def train_batch(self, batch: Batch, epoch: int) -> None:
        """One step. Errors: SharedError, naming the pictures, if loss or gradient are not finite."""
        factor = lr_factor(self.config.optim, epoch, self.step, self.batches / len(self.train_loader))
        seed = seeding.step_seed(self.config.run.seed, self.step, self.processes.rank)
        try:
            losses = self.twin.train_step(batch, seed, factor)
        except DetrError as error:
            raise DetrError(f"step {self.step}, {self.names(batch)}: {error.what}", error.fix) from None
        for name in ("loss", "grad_norm"):
            if not math.isfinite(losses[name]):
                what = {"loss": "the loss", "grad_norm": "the gradient's norm"}[name]
                raise SharedError(f"step {self.step}: {what} is {losses[name]}, with {self.names(batch)}.",
                                  "Lower --lr, or look at these pictures and their annotations.")
        rest = {"lr": self.config.optim.lr * factor, "grad_norm": losses["grad_norm"]}
        self.averages.add(rest)
        values = {**rest, **self.averages.add_step(losses, self.weights, batch)}
        if self.log:
            self.log.step(self.step, {name: values[name] for name in ("loss", "class_error", "lr", "grad_norm")})

    def names(self, batch: Batch) -> str:
        path_of = {image.id: image.path for image in self.train_data.images}
        return ", ".join(path_of[target.image_id] for target in batch.targets)

    def shown(self) -> dict[str, str]:
        """What the progress bar says."""
        means, size = self.averages.entries(), pictures_a_step(self.config)
        last = self.config.optim.epochs * len(self.train_loader)
        left = min(last, self.config.optim.max_steps or last) - self.step
        return {
            "loss": f"{means.get('loss', math.nan):.3f}",
            "class error": f"{means.get(BY_OBJECT, math.nan):.1f} of {means.get('objects', 0):,}",
            "lr": f"{means.get('lr', math.nan):.1e}", "images/s": f"{size / means['step_time']:.1f}",
            "ETA": duration(max(0, left) * means["step_time"]), "data": f"{1000 * means['data_time']:.0f} ms",
            "memory": f"{peak_memory():.0f} MB",
        }

    def record(self, tested: dict) -> dict:
        """What log.txt says about an epoch: the reference code's keys, then ours."""
        means = self.averages.entries()
        data_time, step_time = means.pop("data_time", 0.0), means.pop("step_time", 0.0)
        return {
            **{f"train_{name}": value for name, value in means.items()},
            **tested, "epoch": self.epoch + 1, "n_parameters": self.twin.n_parameters,
            "step": self.step, "train_data_time": data_time, "train_step_time": step_time,
            "train_seconds": self.averages.total("step_time"), "peak_memory_mb": peak_memory(),
        }

    def tell(self, record: dict, results: Results | None) -> None:
        """An epoch in one line."""
        head = f"[train] epoch={record['epoch']:>3}"
        if results:
            head = f"{results.line(record['epoch'])} | best {number(self.best_ap)}"
        losses = {"loss": "train_loss", "test loss": "test_loss"}
        shown = " | ".join(f"{name} {record[key]:.3f}" for name, key in losses.items() if key in record)
        times = " + ".join(duration(record[f"{name}_seconds"]) for name in ("train", *self.evaluated)
                           if f"{name}_seconds" in record)
        print(f"{head} | {shown} | {times} | data {1000 * record['train_data_time']:.0f} ms a step "
              f"| memory {record['peak_memory_mb']:.0f} MB", flush=True)

    def save(self) -> None:
        """Write the checkpoint. If that fails, the run goes on and says so; at its end it is an error."""
        if self.folder is None:
            return
        checkpoint = Checkpoint(self.twin.state(), self.epoch, self.step, self.config, self.train_data.classes,
                                self.best_ap, self.batches, len(self.train_loader), self.since_best,
                                self.averages.sums)
        try:
            self.folder.save(checkpoint)
            self.unsaved, self.saved_step = None, self.step
        except DetrError as error:
            self.unsaved = error
            print(f"warning: {error}", file=sys.stderr)

    def name_checkpoint(self, best: bool) -> None:
        """Keep the best, and as the reference code does, those before a drop of the learning rate and every 100th."""
        if self.folder is None or self.unsaved:
            return
        number = self.epoch + 1
        numbered = self.batches == 0 and (number % self.config.optim.lr_drop == 0 or number % 100 == 0)
        for name in ["best"] * best + [f"checkpoint{self.epoch:04}"] * numbered:
            self.folder.also_as(name)

    def draw_curves(self) -> None:
        """Draw the log. Where that is not possible, the run has still reached its end."""
        if self.folder is None or not (self.folder.path / "log.txt").exists():
            return
        from detr_jittor.report.plot import plot_performance, plot_training_loss  # matplotlib: most of a second

        logs = {self.twin.name: read_log(self.folder.path / "log.txt")}
        try:
            plot_training_loss(logs, self.folder.path / "training_loss_comparison.png")
            plot_performance(logs, self.folder.path / "performance_comparison.png")
        except OSError as error:
            print(f"warning: {self.folder.path}: the curves cannot be drawn ({error.strerror or error}); "
                  "detr-jittor plot draws them later.", file=sys.stderr)


def pictures_a_step(config: Config) -> int:
    """Of all processes together."""
    return config.optim.batch_size * config.optim.accumulate * config.run.world_size


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that it was waited for."""
    began = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - began
        began = time.monotonic()
