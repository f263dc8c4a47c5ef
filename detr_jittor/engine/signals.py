"""SIGTERM, Ctrl-C and SIGUSR1 ask a run to stop after the step that it is at; a second one ends it at once.

SIGUSR1 is for mpirun, which passes it on; after the others it kills its processes a quarter of a second later.
"""

import signal
import threading

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138}  # as shells report them


class StopRequest:
    """A context in which the signals only leave a note: `status` is the exit status asked for, else None."""

    def __init__(self):
        self.status: int | None = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows no other thread to do this
            self._before = {number: signal.signal(number, self._note) for number in STATUS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _) -> None:
        self.status = STATUS[number]
        for each in STATUS:
            signal.signal(each, signal.SIG_DFL)
