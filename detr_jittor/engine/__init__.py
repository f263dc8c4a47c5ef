"""The engine: one training and one evaluation loop. It knows no framework; what it asks of one is in twin.py."""

import contextlib

from detr_jittor import config_check
from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config import Config
from detr_jittor.data.coco import check_same_classes, open_split
from detr_jittor.data.loader import Loader
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.evaluation import evaluate_split
from detr_jittor.engine.signals import StopRequest
from detr_jittor.engine.start import build, find_checkpoint, resolve
from detr_jittor.engine.training import Training
from detr_jittor.evaluate.results import Results
from detr_jittor.twin import load_twin


def train(config: Config, found: tuple[str, Checkpoint] | None = None) -> int:
    """Train as the settings say; logs and checkpoints go to the output folder.

    Args:
        found: (file, content) of the checkpoint to go on from, where it has been read already.

    Returns: the exit status: 0, or 130 and 143 if it was interrupted and has saved where it was.

    Errors: DetrError for settings, data or weights that are not right, and for a loss that is not finite.
    """
    config_check.check(config)
    with contextlib.ExitStack() as stack:
        folder = None
        if config.run.output_dir:
            folder = RunFolder(config.run.output_dir, load_twin(config.run.framework).checkpoint_suffix)
            stack.callback(folder.close)
        found = found or find_checkpoint(config)
        train_data, val_data = (open_split(config.data, split, config.model.masks) for split in ("train", "val"))
        check_same_classes(train_data, val_data)
        for index in (train_data, val_data):
            for remark in index.remarks:
                print(f"{index.name}: {remark}")
        config = resolve(config, train_data, found)
        twin = build(config, found, wants_backbone=True, classes=train_data.classes)
        stop = stack.enter_context(StopRequest())
        training = Training(config, twin, train_data, val_data, folder, stop)
        stack.callback(training.close)
        training.go_on_from(found)
        return training.run()


def evaluate(config: Config, found: tuple[str, Checkpoint] | None = None) -> Results:
    """The AP of a checkpoint (`resume`) on the validation split, and with masks what is measured of those.

    Errors: DetrError for settings, data or weights that are not right.
    """
    config = config.replace(eval=True)
    config_check.check(config)
    found = found or find_checkpoint(config)
    data = open_split(config.data, "val", config.model.masks)
    config = resolve(config, data, found)
    twin = build(config, found, wants_backbone=False)
    bad_images = BadImages(config.data.max_bad_images)
    loader = Loader(data, config.data, config.optim.batch_size, False, config.run.seed, config.model.masks)
    try:
        results, _ = evaluate_split(twin, loader, data, config, bad_images, StopRequest())
    finally:
        loader.close()
    bad_images.tell()
    return results
