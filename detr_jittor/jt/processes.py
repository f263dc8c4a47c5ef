"""Several processes of the Jittor twin: `mpirun -np N python main.py …` starts them, and they exchange through MPI."""

import os
import pickle

import numpy as np

from detr_jittor.config.options import RunConfig
from detr_jittor.errors import DetrError
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.twin.processes import ALONE, Processes, check_launch

COMMAND = "mpirun -np {} python main.py …"


def join(run: RunConfig) -> Processes:
    """The processes that were started with this one. Errors: DetrError if that is not what the settings say."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and "OMPI_COMM_WORLD_SIZE" not in os.environ:
        raise DetrError("torchrun starts the PyTorch twin.", f"Start this one with: {COMMAND.format('N')}")
    started = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))
    check_launch(run, started, COMMAND)
    if run.dist_url != "env://":
        raise DetrError(f"--dist_url {run.dist_url}: MPI knows by itself where the processes meet.", "Leave it out.")
    return Together(run) if started > 1 else ALONE


class Together(Processes):
    def __init__(self, run: RunConfig):
        self.rank, self.size = jt.rank, jt.world_size

    def gather(self, value) -> list:
        """See `processes.Processes.gather`."""
        mine = np.frombuffer(pickle.dumps(value), np.uint8)
        sizes = np.zeros(self.size, np.int32)
        sizes[self.rank] = len(mine)
        sizes = jt.array(sizes).mpi_all_reduce("add").numpy()
        values = []
        for rank, size in enumerate(sizes):
            content = jt.array(mine if rank == self.rank else np.zeros(size, np.uint8))
            values.append(pickle.loads(content.mpi_broadcast(rank).numpy().tobytes()))
        return values

    def average(self, tensors: list) -> list:
        """See `processes.Processes.average`."""
        # In one piece: the order of many exchanges would be the executor's, and might differ between the processes
        flat = jt.concat([t.reshape(-1) for t in tensors]).mpi_all_reduce("mean")
        ends = np.cumsum([t.numel() for t in tensors]).tolist()
        return [flat[end - t.numel():end].reshape(t.shape) for t, end in zip(tensors, ends)]
