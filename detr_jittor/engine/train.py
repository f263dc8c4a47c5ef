"""The training loop. `train` prepares a run, `epochs` is the loop, `one_step` a step; for the parts of a step see
`twin/contract.py` and `jt/twin.py` or `pt/twin.py`.

It knows no framework.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.config.check import check
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import alike, open_splits
from detr_jittor.engine.build import build
from detr_jittor.engine.classes import in_its_labels
from detr_jittor.engine.dataset import check_learnable, tell_crowded, tell_depth, tell_remarks, tell_unmeasured
from detr_jittor.engine.evaluate import evaluate_split
from detr_jittor.engine.expectation import expectation
from detr_jittor.engine.job import Job, agreement, join, take_folder
from detr_jittor.engine.place import Place
from detr_jittor.engine.reporting import Reporting
from detr_jittor.engine.saving import Saving
from detr_jittor.engine.signals import StopRequest
from detr_jittor.engine.start import NOTHING, RESUME, Start, find_start, resolve, tell_start
from detr_jittor.engine.watch import Watch
from detr_jittor.errors import DetrError, SharedError
from detr_jittor.evaluate.results import Results
from detr_jittor.twin.processes import check_same_start
from detr_jittor.twin.schedule import lr_factor
from detr_jittor.twin.seeding import step_seed
from detr_jittor.types import Batch


@dataclass(frozen=True)
class Run:
    """A run, ready to begin or to go on."""

    job: Job
    place: Place
    data: CocoIndex  # the training split
    loader: Loader  # of it
    evaluated: dict[str, tuple[CocoIndex, Loader]]  # the beginning of their names in the log → what is evaluated
    saving: Saving
    reporting: Reporting
    watch: Watch


def train(config: Config, start: Start | None = None) -> int:
    """Train as the settings say; logs and checkpoints go to the output folder.

    Args:
        start: what the settings name, where it has been read already.

    Returns: the exit status: 0, or 130 and 143 if it was interrupted and has saved where it was.

    Errors: DetrError for settings, data or weights that are not right, and for a loss that is not finite.
    """
    with contextlib.ExitStack() as stack:
        return epochs(prepared(config, start, stack))


def epochs(run: Run) -> int:
    """Epoch by epoch, until the end or until a signal stops it. Returns: the exit status."""
    place, agreed, saving, reporting = run.place, run.job.agreement, run.saving, run.reporting
    try:
        while not place.is_at_the_end:
            with contextlib.closing(reporting.progress()) as progress:
                for batch, waited in timed(run.loader.epoch(place.epoch + 1, place.batches)):
                    if place.is_at_the_last_step:
                        break
                    began = time.monotonic()
                    all_have_pictures = agreed.on(batch)
                    if agreed.stopped:
                        break
                    if all_have_pictures:
                        saving.before_step()
                        one_step(run, batch)
                        reporting.batch(batch, run.data.classes)
                    place.after_step(waited, waited + time.monotonic() - began)
                    progress.update(reporting.shown())
                    if place.saving_is_due:
                        saving.save()
                else:
                    agreed.between_steps()
                    place.check_learned()
            due = place.evaluation_is_due
            if due or agreed.stopped:
                saving.save()  # evaluation can fail, or take long
            results, measured = evaluation(run) if due and not agreed.stopped else (None, {})
            if agreed.stopped:
                return agreed.stopped
            reporting.draw_batches(run.data.classes)  # where the epoch was short
            if best := results is not None and place.after_evaluation(results):
                reporting.draw_best(results, run.evaluated["test"][0])
            reporting.epoch(results, measured)
            run.watch.after_epoch(place.step, reporting.mean_loss, results and results.ap)
            place.after_epoch()
            saving.save()
            saving.name(best)
    except Exception:  # also an error of the program, after which what was learned is as good as before
        saving.save_what_is_new()
        raise
    return ended(run)


def one_step(run: Run, batch: Batch) -> None:
    """One step. Errors: SharedError, naming the pictures, if loss or gradient are not finite."""
    config, place = run.job.config, run.place
    factor = lr_factor(config.optim, place.epoch + 1, place.step, place.share)
    seed = step_seed(config.run.seed, place.step, run.job.processes.rank)
    run.watch.before_step(batch)
    try:
        losses = run.job.twin.train_step(batch, seed, factor)
    except DetrError as error:
        raise DetrError(f"step {place.step}, {pictures(run, batch)}: {error.what}", error.fix) from None
    for name, what in (("loss", "the loss"), ("grad_norm", "the gradient's norm")):
        if not math.isfinite(losses[name]):
            raise SharedError(f"step {place.step}: {what} is {losses[name]}, with {pictures(run, batch)}.",
                              "Lower --lr, or look at these pictures and their annotations.")
    run.watch.after_step(place.step, factor)
    run.reporting.step(losses, batch, factor)


def pictures(run: Run, batch: Batch) -> str:
    path_of = {image.id: image.path for image in run.data.images}
    return ", ".join(path_of[target.image_id] for target in batch.targets)


def evaluation(run: Run) -> tuple[Results | None, dict]:
    """(what is measured on the validation split, the entries of log.txt); no results if it was interrupted."""
    measured, entries = {}, {}
    for name, (data, loader) in run.evaluated.items():
        began = time.monotonic()
        measured[name], averages = evaluate_split(run.job, data, loader, mistakes=name == "test")
        if measured[name] is None:
            run.job.agreement.between_steps()
            return None, {}
        entries |= {f"{name}_{loss}": value for loss, value in averages.entries().items()}
        entries |= {f"{name}_{key}": value for key, value in measured[name].log_entries().items()}
        entries[f"{name}_seconds"] = time.monotonic() - began
    return measured["test"], entries


def ended(run: Run) -> int:
    """The last words of a run that was not interrupted. Returns: 0. Errors: DetrError if it could not be saved."""
    if run.place.is_stale:
        print(f"No better AP in {run.place.since_best} evaluations: stopped early.")
    run.job.agreement.bad_images.tell()
    if run.saving.unsaved:
        raise run.saving.unsaved
    run.reporting.draw_curves()
    run.reporting.draw_mistakes()
    return 0


def prepared(config: Config, start: Start | None, stack: contextlib.ExitStack) -> Run:
    """Everything that comes before the first step; what must be closed is closed with the stack."""
    check(config)
    processes = join(config, stack)
    config = config.replace(world_size=processes.size)
    check(config)
    folder = take_folder(config, processes, stack)
    start = start or find_start(config)
    tell_start(config, start)
    train_data, val_data = open_splits(config.data, config.model.masks)
    train_data = in_its_labels(config, start, train_data)
    val_data = alike(train_data, val_data)
    tell_remarks(train_data, val_data)
    check_learnable(train_data, config.data.remove_difficult)
    config = resolve(config, train_data, start)
    if processes.rank == 0:
        tell_depth(train_data)
        tell_unmeasured(val_data)
        tell_crowded(train_data, config.model.num_queries)
    twin = build(config, start, train_data.classes, processes)
    if processes.size > 1:
        check_same_start(processes, twin.state(), len(train_data), len(val_data))
    stop = stack.enter_context(StopRequest())
    job = Job(config, twin, agreement(config, processes, stop), processes)
    return begun(job, start, folder, (train_data, val_data), stack)


def begun(job: Job, start: Start, folder: RunFolder | None, data: tuple[CocoIndex, CocoIndex],
          stack: contextlib.ExitStack) -> Run:
    """The run at the place where it begins or goes on, with its loaders and logs open.

    Args:
        data: the training and the validation split.
    """
    config, (train_data, val_data) = job.config, data
    splits = {"test": val_data}
    if config.run.eval_train:
        splits["train_eval"] = train_data.first(config.run.eval_train)
    loader = stack.enter_context(contextlib.closing(job.loader(train_data, train=True)))
    evaluated = {name: (index, stack.enter_context(contextlib.closing(job.loader(index, train=False))))
                 for name, index in splits.items()}

    place = Place(config, len(loader))
    going_on = start.mode == RESUME and bool(start.checkpoint.state.optimizer)
    if going_on:
        place.take_over(start.checkpoint)
    reporting = Reporting(config, job.twin, place, folder and folder.path, quiet=job.processes.rank > 0)
    stack.callback(reporting.close)
    if place.is_at_the_end:
        print(f"Nothing left to train: {place.epoch + 1} epochs and {place.step} steps are done.")
    else:
        here = bool(folder) and going_on and folder.holds(start.file)
        if folder and not here and (earlier := folder.set_aside()):
            print(f"What an earlier run left in {folder.path} is in {earlier} now.")
        reporting.open(goes_on=here)
        print(expectation(config, len(train_data), len(loader), trained=start.mode != NOTHING))
    saving = Saving(folder, job.twin, place, train_data.classes)
    return Run(job, place, train_data, loader, evaluated, saving, reporting,
               Watch(config, job.twin, job.processes))


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that it was waited for."""
    began = time.monotonic()
    for batch in batches:
        yield batch, time.monotonic() - began
        began = time.monotonic()
