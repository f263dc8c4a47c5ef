"""What is measured over a split, and its losses."""

import contextlib
from pathlib import Path

from detr_jittor.config import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.engine.averages import Averages, loss_weights
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.collapse import Collapse
from detr_jittor.engine.signals import StopRequest
from detr_jittor.evaluate.results import Evaluator, Results
from detr_jittor.report.progress import Progress
from detr_jittor.twin import Twin


def evaluate_split(twin: Twin, loader: Loader, data: CocoIndex, config: Config, bad_images: BadImages,
                   stop: StopRequest) -> tuple[Results | None, Averages]:
    """(results, mean losses) over a split; no results if it was interrupted."""
    folder = Path(config.run.output_dir) / "panoptic_eval" if config.run.output_dir else None
    weights, averages, evaluator = loss_weights(config.loss), Averages(), Evaluator(data, config.model.masks, folder)
    collapse = Collapse()
    with twin.averaged(), contextlib.closing(Progress("evaluation", len(loader))) as progress:
        for batch in loader.epoch():
            if stop.status:
                return None, averages
            bad_images.add(batch.bad_images)
            if not len(batch):
                continue
            outputs, losses = twin.evaluate(batch)
            averages.add_step(losses, weights, batch)
            collapse.add(outputs)
            evaluator.add(outputs, batch.targets)
            progress.update({"loss": f"{averages.means()['loss']:.3f}"})
    collapse.tell()
    return evaluator.summarize(), averages
