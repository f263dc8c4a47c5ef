"""The evaluation loop: what is measured over a split, and its losses."""

import contextlib
from pathlib import Path

from detr_jittor.config.check import check
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split
from detr_jittor.engine.averages import Averages
from detr_jittor.engine.build import build
from detr_jittor.engine.classes import in_its_labels
from detr_jittor.engine.collapse import Collapse
from detr_jittor.engine.dataset import tell_depth, tell_remarks, tell_unmeasured
from detr_jittor.engine.job import Job, agreement, join, take_folder
from detr_jittor.engine.signals import StopRequest
from detr_jittor.engine.start import Start, find_start, resolve, tell_start
from detr_jittor.errors import SharedError
from detr_jittor.evaluate.results import Evaluator, Results
from detr_jittor.report.progress import Progress
from detr_jittor.twin.loss_terms import loss_weights
from detr_jittor.twin.processes import check_same_start


def evaluate(config: Config, start: Start | None = None) -> Results | None:
    """The AP of a checkpoint (`resume`) on the validation split, and with masks what is measured of those.

    Args:
        start: what the settings name, where it has been read already.

    Returns: None in all of several processes but the first, which is to tell.

    Errors: DetrError for settings, data or weights that are not right.
    """
    config = config.replace(eval=True)
    check(config)
    with contextlib.ExitStack() as stack:
        processes = join(config, stack)
        take_folder(config, processes, stack)
        start = start or find_start(config)
        tell_start(config, start)
        data = in_its_labels(config, start, open_split(config.data, "val", config.model.masks))
        config = resolve(config, data, start)
        tell_remarks(data)
        if processes.rank == 0:
            tell_depth(data)
            tell_unmeasured(data)
        twin = build(config, start, processes=processes)
        if processes.size > 1:
            check_same_start(processes, twin.state(), len(data))
        job = Job(config, twin, agreement(config, processes, StopRequest()), processes)
        loader = stack.enter_context(contextlib.closing(job.loader(data, train=False)))
        results, _ = evaluate_split(job, data, loader)
        job.agreement.bad_images.tell()
        if results and results.mistakes:
            from detr_jittor.evaluate.mistakes_page import write_mistakes  # matplotlib's fonts: most of a second

            page = write_mistakes(Path(config.run.output_dir), results, data)
            print(f"What went wrong is shown in {page}.")
    return results if processes.rank == 0 else None


def evaluate_split(job: Job, data: CocoIndex, loader: Loader,
                   mistakes: bool = True) -> tuple[Results | None, Averages]:
    """(results, mean losses) over a split; no results if it was interrupted.

    Each of several processes has a share of the batches, and the results of all.

    Args:
        mistakes: look for what went wrong, if there is a folder to tell it in.

    Errors: SharedError if none of the pictures can be read.
    """
    config, stop, bad_images = job.config, job.agreement.stop, job.agreement.bad_images
    writes = config.run.output_dir and job.processes.rank == 0
    folder = Path(config.run.output_dir) / "panoptic_eval" if writes else None
    weights, averages, collapse = loss_weights(config), Averages(), Collapse()
    evaluator = Evaluator(data, config.model.masks, folder, mistakes and bool(writes))
    progress = Progress("evaluation", len(loader), quiet=job.processes.rank > 0)
    with job.twin.averaged(), contextlib.closing(progress):
        for batch in loader.epoch():
            if stop.status:
                break
            bad_images.add(batch.bad_images)
            if not len(batch):
                continue
            outputs, losses = job.twin.evaluate(batch)
            averages.add_step(losses, weights, batch)
            collapse.add(outputs)
            evaluator.add(outputs, batch.targets)
            progress.update({"loss": f"{averages.means()['loss']:.3f}"})
    shares = job.processes.gather((stop.status, averages.sums, evaluator.found(), list(bad_images.reasons)))
    for rank, (_, sums, found, reasons) in enumerate(shares):
        if rank != job.processes.rank:
            averages.merge(sums)
            evaluator.take(found)
            bad_images.add(reasons)
    if any(status for status, *_ in shares):
        return None, averages
    if len(data) and not averages.sums:
        raise SharedError(f"{data.name}: not one of its {len(data)} pictures could be read, so nothing is measured.",
                          "Look at what is said of them above.")
    collapse.tell()
    return evaluator.summarize(), averages
