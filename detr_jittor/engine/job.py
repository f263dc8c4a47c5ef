"""What training and evaluation have in common: the processes, the output folder, the twin, and what they agree on."""

import contextlib
from dataclasses import dataclass

from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.engine.bad_images import BadImages
from detr_jittor.engine.signals import StopRequest
from detr_jittor.errors import DetrError, SharedError
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.processes import ALONE, Processes, together
from detr_jittor.types import Batch


class Agreement:
    """What several processes must know of each other: whether to stop, and which pictures could not be read."""

    def __init__(self, stop: StopRequest, bad_images: BadImages, processes: Processes = ALONE):
        self.stop, self.bad_images, self.processes = stop, bad_images, processes
        self.stopped: int | None = None  # the exit status, once all processes know that they are to stop

    def on(self, batch: Batch) -> bool:
        """Exchange it before a step. Returns: whether all have a picture: a step in which one of several processes has
        none is left out by all of them. Errors: SharedError for too many bad pictures."""
        return self.exchange(batch.bad_images, len(batch) > 0)

    def between_steps(self) -> None:
        """Exchange it where no step follows."""
        self.exchange([])

    def exchange(self, bad_images: list[str], go_on: bool = True) -> bool:
        told = self.processes.gather((self.stop.status, bad_images, go_on))
        self.stopped = self.stopped or next((status for status, *_ in told if status), None)
        try:
            self.bad_images.add([reason for _, reasons, _ in told for reason in reasons])
        except DetrError as error:
            raise SharedError(error.what, error.fix) from None
        return all(yes for *_, yes in told)


@dataclass(frozen=True)
class Job:
    """Settings (resolved), twin, and what the processes agree on."""

    config: Config
    twin: Twin
    agreement: Agreement
    processes: Processes

    def loader(self, index: CocoIndex, train: bool) -> Loader:
        """The batches of a split that are this process's share."""
        data, optim = self.config.data, self.config.optim
        size = optim.batch_size * (optim.accumulate if train else 1)
        return Loader(index, data, size, train, self.config.run.seed, self.config.model.masks, self.processes.rank,
                      self.processes.size)


def join(config: Config, stack: contextlib.ExitStack) -> Processes:
    """The processes that were started with this one, until the stack is closed. Errors: DetrError."""
    return stack.enter_context(together(load_twin(config.run.framework).join(config.run)))


def take_folder(config: Config, processes: Processes, stack: contextlib.ExitStack) -> RunFolder | None:
    """The output folder, taken for this process until the stack is closed; None if it has nothing to write.

    Errors: DetrError if it cannot be written, or if another process has it.
    """
    if not config.run.output_dir or processes.rank > 0:
        return None
    folder = RunFolder(config.run.output_dir, load_twin(config.run.framework).checkpoint_suffix)
    stack.callback(folder.close)
    return folder


def agreement(config: Config, processes: Processes, stop: StopRequest) -> Agreement:
    return Agreement(stop, BadImages(config.data.max_bad_images, quiet=processes.rank > 0), processes)
