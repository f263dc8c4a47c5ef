"""Several processes that train one model together: what is asked of them, and the case of one.

`jt/processes.py` (MPI) and `pt/processes.py` (torch.distributed) have the case of more. What is exchanged here is
asked of all processes in the same order; one that does not take part leaves the others waiting.
"""

import contextlib
import os
import sys
import zlib
from collections.abc import Iterator

import numpy as np

from detr_jittor.config.options import RunConfig
from detr_jittor.errors import DetrError, SharedError, tell
from detr_jittor.types import State


class Processes:
    """One process, alone."""

    rank, size = 0, 1

    def gather(self, value) -> list:
        """What each process gives, in the order of their ranks."""
        return [value]

    def average(self, tensors: list) -> list:
        """The mean over the processes of each of the framework's tensors."""
        return tensors

    def mean(self, values):
        """The mean over the processes of a number or a NumPy array, the same to the last bit in each."""
        return np.mean(self.gather(values), axis=0)

    def mean_of(self, numbers: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of each number."""
        return dict(zip(numbers, self.mean(np.array([*numbers.values()])).tolist()))

    def leave(self) -> None:
        """Nothing is exchanged from now on."""


ALONE = Processes()


def check_launch(run: RunConfig, started: int, command: str) -> None:
    """Errors: DetrError if --world_size is not the number of processes that were started."""
    if run.world_size not in (1, started):
        raise DetrError(f"--world_size {run.world_size}, but {started} process{'es' * (started > 1)} started.",
                        f"Start them with: {command.format(run.world_size)}")


@contextlib.contextmanager
def together(processes: Processes) -> Iterator[Processes]:
    """The time of working together: only process 0 prints, and none leaves before all are done.

    The launcher ends the others as soon as one has left with an error or after a signal, also process 0 while it saves.
    A process that fails alone ends at once nevertheless. It must not wait for the others at its exit, as MPI does,
    while they wait for it in another place.
    """
    if processes.size == 1:
        yield processes
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere if processes.rank else sys.stdout):
        try:
            yield processes
            processes.gather(None)
            processes.leave()
        except BaseException as error:
            status = tell(error, f"process {processes.rank}: ")
            if isinstance(error, SharedError):
                with contextlib.suppress(DetrError):
                    processes.gather(None)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def checksum(arrays: dict[str, np.ndarray]) -> int:
    """Of all of them, whatever their order."""
    found = 0
    for name in sorted(arrays):
        found = zlib.crc32(np.ascontiguousarray(arrays[name]), found)
    return found


def check_same_start(processes: Processes, state: State, *sizes: int) -> None:
    """Errors: DetrError if a process starts from other weights or data, such as an old copy on another machine."""
    starts = processes.gather((checksum(state.model), state.steps, *sizes))
    strange = [rank for rank, start in enumerate(starts) if start != starts[0]]
    if strange:
        raise DetrError(f"process {strange[0]} starts from other weights or another dataset than process 0.",
                        "Give all machines the same files.")
