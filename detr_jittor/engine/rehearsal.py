"""`train --check`: the short checks of a run before it is begun, in a minute or so. Nothing is written.

The settings and the data are read as training reads them; one batch is learned by heart; a checkpoint is written and
read; and the truth itself, taken for detections, must be measured as AP 1.
"""

import contextlib
import tempfile
from pathlib import Path

import numpy as np

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.engine.start import Start
from detr_jittor.engine.train import Run, prepared
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.twin.seeding import step_seed
from detr_jittor.types import Batch, Detections

STEPS = 30  # with one batch
LEARNED = 0.9  # what is left of the loss then at most, of that before
PICTURES = 100  # whose truth is measured


def rehearse(config: Config, start: Start | None = None) -> int:
    """Returns: 0 if all checks pass. Errors: DetrError for the first that does not."""
    with contextlib.ExitStack() as stack:
        run = prepared(config.replace(output_dir=""), start, stack)
        tell("data", f"{len(run.data):,} pictures to learn from")
        tell("evaluation", perfect(run.evaluated["test"][0]))
        batch = next((b for b in run.loader.epoch(0) if any(len(target.labels) for target in b.targets)), None)
        if batch is None:
            raise DetrError(f"{run.data.name}: no picture of an epoch has an object after augmentation.",
                            "Look at the annotations: detr-jittor dataset check.")
        tell("learning", overfitted(run, batch))
        tell("checkpoint", round_trip(run, batch))
    return 0


def tell(what: str, found: str) -> None:
    print(f"ok       {what:<12} {found}", flush=True)


def perfect(data: CocoIndex) -> str:
    """Errors: DetrError if the truth, taken for detections, does not have AP 1."""
    data = data.first(PICTURES)
    evaluator = CocoEvaluator(data)
    found = []
    for place, image in enumerate(data.images):
        objects = data.annotations(place)
        objects = objects.rows(~objects.iscrowd)
        x, y, w, h = objects.boxes.T
        found.append(Detections(image.id, np.ones(len(x), np.float32), objects.labels,
                                np.stack([x, y, x + w, y + h], axis=1)))
    evaluator.add(found)
    ap = evaluator.summarize().ap
    if not (ap > 0.999 or np.isnan(ap) or not any(len(f.labels) for f in found)):
        raise DetrError(f"{data.name}: its own objects, taken for detections, have an AP of {ap:.3f}, not 1.",
                        "Objects may be doubled, or have the area of another: detr-jittor dataset check.")
    return f"the truth of {len(data):,} pictures, taken for detections, has AP {ap:.3f}"


def overfitted(run: Run, batch: Batch) -> str:
    """Errors: DetrError if the loss of one batch does not fall in some steps with it alone."""
    twin, seed = run.job.twin, run.job.config.run.seed
    before = twin.evaluate(batch)[1]["loss"]
    for step in range(STEPS):
        twin.train_step(batch, step_seed(seed, step), 1.0)
    after = twin.evaluate(batch)[1]["loss"]
    if not after <= LEARNED * before:
        raise DetrError(f"{STEPS} steps with one batch brought its loss from {before:.3f} to {after:.3f}, which is no "
                        "learning.", "Look at --lr, at --freeze and, with detr-jittor dataset show, at the boxes.")
    return f"{STEPS} steps with one batch brought its loss from {before:.3f} to {after:.3f}"


def round_trip(run: Run, batch: Batch) -> str:
    """Errors: DetrError if a checkpoint does not bring back what was written."""
    twin = run.job.twin
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"checkpoint{twin.checkpoint_suffix}"
        before, state = twin.predict(batch), twin.state()
        store.save(file, Checkpoint(state, config=run.job.config))
        read = store.load(file).state
        twin.train_step(batch, 0, 1.0)  # so that loading has something to bring back
        twin.load(read)
        after, size = twin.predict(batch), file.stat().st_size
    same = all(np.array_equal(read.model[name], value) for name, value in state.model.items())
    if not (same and np.array_equal(before.logits, after.logits) and np.array_equal(before.boxes, after.boxes)):
        raise DetrError("a checkpoint that was written and read does not give the same detections.",
                        "Look at the disk and at the memory of this machine.")
    return f"written and read ({size / 1e6:.0f} MB), the detections are the same to the last bit"
