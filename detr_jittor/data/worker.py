"""The process that makes batches: `python -m detr_jittor.data.worker DESCRIPTOR`. It imports no framework.

It is a fresh interpreter, not a fork: the parent has the threads of a framework, which a fork would leave in an
undefined state, and the child does not run the user's main module again.
"""

import signal
import sys
import traceback
from multiprocessing.connection import Connection

from detr_jittor.data import transport
from detr_jittor.data.batch import make_batch


def main(descriptor: int) -> None:
    """Answer each (number, Request) with (number, Batch), or (number, str) for an error, until the parent is gone."""
    # A terminal or mpirun sends these to all processes; the parent decides what follows
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        while True:
            number, request = transport.receive(connection)
            try:
                answer = make_batch(request)
            except Exception:
                answer = traceback.format_exc()
            transport.send(connection, (number, answer))
    except (EOFError, ConnectionError):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
