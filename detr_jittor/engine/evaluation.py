"""AP and losses over a split."""

import contextlib

from detr_jittor.config import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.engine.averages import Averages, logged, loss_weights
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.signals import StopRequest
from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.evaluate.summary import Summary
from detr_jittor.report.progress import Progress
from detr_jittor.twin import Twin


def evaluate_split(twin: Twin, loader: Loader, data: CocoIndex, config: Config, bad_images: BadImages,
                   stop: StopRequest) -> tuple[Summary | None, Averages]:
    """(AP, mean losses) over a split; no AP if it was interrupted."""
    weights, averages, evaluator = loss_weights(config.loss), Averages(), CocoEvaluator(data)
    with contextlib.closing(Progress("evaluation", len(loader))) as progress:
        for batch in loader.epoch():
            if stop.status:
                return None, averages
            bad_images.add(batch.bad_images)
            if not len(batch):
                continue
            outputs, losses = twin.evaluate(batch)
            averages.add(logged(losses, weights))
            evaluator.add(detections(outputs, batch.targets))
            progress.update({"loss": f"{averages.means()['loss']:.3f}"})
    return evaluator.summarize(), averages
