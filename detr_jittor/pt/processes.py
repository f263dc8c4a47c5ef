"""Several processes of the PyTorch twin: `torchrun --nproc_per_node N main.py …` starts them."""

import contextlib
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from detr_jittor.config.options import RunConfig
from detr_jittor.errors import DetrError
from detr_jittor.twin.processes import ALONE, Processes, check_launch

COMMAND = "torchrun --nproc_per_node {} main.py --framework pytorch …"
PATIENCE = timedelta(minutes=30)  # an epoch's end can keep a process waiting


def join(run: RunConfig) -> Processes:
    """The processes that were started with this one. Errors: DetrError if that is not what the settings say."""
    if int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1 and "WORLD_SIZE" not in os.environ:
        raise DetrError("mpirun starts the Jittor twin.", f"Start this one with: {COMMAND.format('N')}")
    started = int(os.environ.get("WORLD_SIZE", 1))
    check_launch(run, started, COMMAND)
    return Together(run) if started > 1 else ALONE


@contextlib.contextmanager
def exchanging():
    """Turns the end of another process into an error that the user reads."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise DetrError(f"another process of this run cannot be reached ({reason[:200]}).",
                        "If it has ended, its own last line says why.") from None


class Together(Processes):
    def __init__(self, run: RunConfig):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ["WORLD_SIZE"])
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with exchanging():
            dist.init_process_group(backend, run.dist_url, PATIENCE, self.size, self.rank)

    def gather(self, value) -> list:
        """See `processes.Processes.gather`."""
        values = [None] * self.size
        with exchanging():
            dist.all_gather_object(values, value)
        return values

    def average(self, tensors: list) -> list:
        """See `processes.Processes.average`."""
        flat = torch.cat([t.reshape(-1) for t in tensors])
        with exchanging():
            dist.all_reduce(flat)
        flat /= self.size
        return [part.view_as(t) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors)]

    def leave(self) -> None:
        """See `processes.Processes.leave`. Threads of the group that still run at the exit would abort the process."""
        dist.destroy_process_group()
