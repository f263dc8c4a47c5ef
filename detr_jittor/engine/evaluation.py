"""What is measured over a split, and its losses."""

import contextlib
from pathlib import Path

from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.engine.averages import Averages, loss_weights
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.collapse import Collapse
from detr_jittor.engine.signals import StopRequest
from detr_jittor.errors import SharedError
from detr_jittor.evaluate.results import Evaluator, Results
from detr_jittor.report.progress import Progress
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.processes import ALONE, Processes


def evaluate_split(twin: Twin, loader: Loader, data: CocoIndex, config: Config, bad_images: BadImages,
                   stop: StopRequest, processes: Processes = ALONE) -> tuple[Results | None, Averages]:
    """(results, mean losses) over a split; no results if it was interrupted.

    Each of several processes has a share of the batches, and the results of all.

    Errors: SharedError if none of the pictures can be read.
    """
    writes = config.run.output_dir and processes.rank == 0
    folder = Path(config.run.output_dir) / "panoptic_eval" if writes else None
    weights, averages, evaluator = loss_weights(config), Averages(), Evaluator(data, config.model.masks, folder)
    collapse = Collapse()
    progress = Progress("evaluation", len(loader), quiet=processes.rank > 0)
    with twin.averaged(), contextlib.closing(progress):
        for batch in loader.epoch():
            if stop.status:
                break
            bad_images.add(batch.bad_images)
            if not len(batch):
                continue
            outputs, losses = twin.evaluate(batch)
            averages.add_step(losses, weights, batch)
            collapse.add(outputs)
            evaluator.add(outputs, batch.targets)
            progress.update({"loss": f"{averages.means()['loss']:.3f}"})
    shares = processes.gather((stop.status, averages.sums, evaluator.found(), list(bad_images.reasons)))
    for rank, (_, sums, found, reasons) in enumerate(shares):
        if rank != processes.rank:
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
