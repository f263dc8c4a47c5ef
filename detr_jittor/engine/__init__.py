"""The engine: one training and one evaluation loop. It knows no framework; what it asks of one: twin/contract.py."""

import contextlib

from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.check import check
from detr_jittor.config.options import Config
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import alike, open_split, open_splits
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.classes import in_its_labels
from detr_jittor.engine.evaluation import evaluate_split
from detr_jittor.engine.signals import StopRequest
from detr_jittor.engine.start import (
    build,
    check_learnable,
    find_checkpoint,
    resolve,
    tell_checkpoint,
    tell_crowded,
    tell_unmeasured,
)
from detr_jittor.engine.training import Training
from detr_jittor.errors import visible
from detr_jittor.evaluate.results import Results
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.processes import Processes, check_same_start, together


def train(config: Config, found: tuple[str, Checkpoint] | None = None) -> int:
    """Train as the settings say; logs and checkpoints go to the output folder.

    Args:
        found: (file, content) of the checkpoint to go on from, where it has been read already.

    Returns: the exit status: 0, or 130 and 143 if it was interrupted and has saved where it was.

    Errors: DetrError for settings, data or weights that are not right, and for a loss that is not finite.
    """
    check(config)
    with contextlib.ExitStack() as stack:
        framework = load_twin(config.run.framework)
        processes = stack.enter_context(together(framework.join(config.run)))
        config = config.replace(world_size=processes.size)
        check(config)
        folder = take_folder(config, framework, processes, stack)
        found = found or find_checkpoint(config)
        tell_checkpoint(config, found)
        train_data, val_data = open_splits(config.data, config.model.masks)
        train_data = in_its_labels(config, found, train_data)
        val_data = alike(train_data, val_data)
        for index in (train_data, val_data):
            for remark in index.remarks:
                print(visible(f"{index.name}: {remark}"))
        check_learnable(train_data, config.data.remove_difficult)
        config = resolve(config, train_data, found)
        if processes.rank == 0:
            tell_unmeasured(val_data)
            tell_crowded(train_data, config.model.num_queries)
        twin = build(config, found, True, train_data.classes, processes)
        if processes.size > 1:
            check_same_start(processes, twin.state(), len(train_data), len(val_data))
        stop = stack.enter_context(StopRequest())
        training = Training(config, twin, train_data, val_data, folder, stop, processes)
        stack.callback(training.close)
        training.go_on_from(found)
        return training.run()


def evaluate(config: Config, found: tuple[str, Checkpoint] | None = None) -> Results | None:
    """The AP of a checkpoint (`resume`) on the validation split, and with masks what is measured of those.

    Returns: None in all of several processes but the first, which is to tell.

    Errors: DetrError for settings, data or weights that are not right.
    """
    config = config.replace(eval=True)
    check(config)
    with contextlib.ExitStack() as stack:
        framework = load_twin(config.run.framework)
        processes = stack.enter_context(together(framework.join(config.run)))
        take_folder(config, framework, processes, stack)
        found = found or find_checkpoint(config)
        tell_checkpoint(config, found)
        data = in_its_labels(config, found, open_split(config.data, "val", config.model.masks))
        config = resolve(config, data, found)
        if processes.rank == 0:
            tell_unmeasured(data)
        twin = build(config, found, False, processes=processes)
        if processes.size > 1:
            check_same_start(processes, twin.state(), len(data))
        bad_images = BadImages(config.data.max_bad_images, quiet=processes.rank > 0)
        loader = Loader(data, config.data, config.optim.batch_size, False, config.run.seed, config.model.masks,
                        processes.rank, processes.size)
        stack.callback(loader.close)
        results, _ = evaluate_split(twin, loader, data, config, bad_images, StopRequest(), processes)
        bad_images.tell()
    return results if processes.rank == 0 else None


def take_folder(config: Config, framework: type[Twin], processes: Processes,
                stack: contextlib.ExitStack) -> RunFolder | None:
    """The output folder, taken for this process until the stack is closed; None if it has nothing to write.

    Errors: DetrError if it cannot be written, or if another process has it.
    """
    if not config.run.output_dir or processes.rank > 0:
        return None
    folder = RunFolder(config.run.output_dir, framework.checkpoint_suffix)
    stack.callback(folder.close)
    return folder
