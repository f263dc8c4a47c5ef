"""Reader processes that make batches ahead of time, and are watched."""

import itertools
import os
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from detr_jittor.data import transport
from detr_jittor.data.batch import Request
from detr_jittor.errors import DetrError
from detr_jittor.types import Batch

AHEAD = 2  # batches that each worker has to make, or has made, before they are asked for
PATIENCE = 60  # seconds that a worker may stand still, or compute, before it is taken to hang
A_PICTURE = 10  # seconds that it may compute for each picture of its batch, where that is longer


@dataclass
class Reader:
    process: subprocess.Popen
    connection: Connection
    jobs: deque[tuple[int, Request]] = field(default_factory=deque)  # not answered yet, in the order of answering


class Pool:
    def __init__(self, count: int):
        self.patience = PATIENCE
        self.workers = [start_worker() for _ in range(count)]
        self._numbers = itertools.count()
        self._stop = weakref.finalize(self, stop, self.workers)

    def run(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """The batches in the order of the requests. One run at a time; it may be given up half-way.

        Errors: DetrError if a worker dies or hangs; the pool is closed then.
        """
        requests = iter(requests)
        waiting: deque[tuple[Reader, int]] = deque()

        def send_ahead() -> None:
            free = len(self.workers) * AHEAD - len(waiting)
            waiting.extend(self._send(request) for request in itertools.islice(requests, free))

        send_ahead()
        while waiting:
            batch = self._answer(*waiting.popleft())
            send_ahead()
            yield batch

    def close(self) -> None:
        self._stop()

    def _send(self, request: Request) -> tuple[Reader, int]:
        worker, number = min(self.workers, key=lambda w: len(w.jobs)), next(self._numbers)
        worker.jobs.append((number, request))
        try:
            transport.send(worker.connection, (number, request))
        except OSError:
            raise self._died(worker) from None
        return worker, number

    def _answer(self, worker: Reader, number: int) -> Batch:
        while True:
            answered, batch = self._receive(worker)
            worker.jobs.popleft()
            if isinstance(batch, str):
                raise RuntimeError(f"a worker process failed:\n{batch}")
            if answered == number:  # other answers belong to a run that was given up
                return batch

    def _receive(self, worker: Reader):
        tick, still, begin = 1.0, 0.0, cpu_time(worker)
        last = begin
        while not worker.connection.poll(tick):
            now = cpu_time(worker)
            # By ticks, not by the clock, and only while it stands still: if this process was suspended, or the machine
            # is so busy that the worker's turn seldom comes, the worker is not to blame.
            still, last, spent = (0.0 if now > last else still + tick), now, now - begin
            if still >= self.patience or spent >= max(self.patience, A_PICTURE * len(worker.jobs[0][1].images)):
                self.close()
                raise DetrError(f"a worker process has not answered for {self.patience:g} s; it reads {files(worker)}.",
                                "See that these files can be reached; --num_workers 0 reads them in this process.")
        try:
            return transport.receive(worker.connection)
        except (EOFError, OSError):
            raise self._died(worker) from None

    def _died(self, worker: Reader) -> DetrError:
        status = worker.process.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        self.close()
        return DetrError(f"a worker process {how}; it was to read {files(worker)}.",
                         "If memory ran out, lower --num_workers or --batch_size.")


def cpu_time(worker: Reader) -> float:
    """Seconds of processor time that a worker has used; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{worker.process.pid}/stat").read_text()
    except OSError:
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]  # the fields are counted after the name in brackets
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def files(worker: Reader) -> str:
    """The pictures of the batch that a worker is at."""
    return ", ".join(image.path for image in worker.jobs[0][1].images) if worker.jobs else "nothing"


def start_worker() -> Reader:
    """A new interpreter that finds the same packages as this one."""
    ours, theirs = Pipe()
    with theirs:
        program = (f"import sys; sys.path[:] = {sys.path!r}; "
                   f"from detr_jittor.data.worker import main; main({theirs.fileno()})")
        process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[theirs.fileno()],
                                   stdin=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return Reader(process, ours)


def stop(workers: list[Reader]) -> None:
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
