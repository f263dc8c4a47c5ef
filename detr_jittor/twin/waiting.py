"""How OpenMP's threads wait for each other: actively on a quiet machine, asleep on a busy one.

Between two pieces of parallel work the threads of GNU OpenMP spin for some milliseconds, which is quickest as long as
each has a processor to itself. Beside another busy process they spin while the thread that they wait for is not
running, at each of some hundred barriers of a training step: a step takes 30 to 50 times as long. Asleep it takes twice
as long, which is what is left of the machine; but to wake up costs a quarter of a step on a quiet one.

No environment variable serves both. OpenMP itself knows a second, short time of spinning, for a process with more
threads than processors (GCC's manual of libgomp, GOMP_SPINCOUNT), and looks at each barrier which one holds. So while
the machine is busy, some threads more are held here that do nothing but sleep.
"""

import atexit
import ctypes
import os
import re
import threading
import time
from pathlib import Path

INTERVAL = 0.2  # seconds between two looks
BUSY = 0.1  # seconds that this process's threads wait for a processor in each second: from here on it is busy,
QUIET = 0.02  # and up to here quiet again
IDLE = 0.3  # seconds that it computes in each second: below, nothing is learned about the machine
HOLD, LONGEST_HOLD = 1.0, 8.0  # seconds asleep at least; twice as long each time it turns out to be too early
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # with one of these the user has decided


class Extra:
    """Threads of one OpenMP library that sleep until they are let go, so that there are more than processors."""

    def __init__(self, library: str):
        self.openmp, self.libc = ctypes.CDLL(library), ctypes.CDLL(None)
        self.semaphore = ctypes.create_string_buffer(64)  # a sem_t
        # Together with those that compute one more than there are processors.
        self.count = max(self.openmp.omp_get_num_procs() - self.openmp.omp_get_max_threads(), 0) + 2
        self.thread: threading.Thread | None = None

    def hold(self) -> None:
        self.libc.sem_init(self.semaphore, 0, 0)
        self.thread = threading.Thread(target=self._sleep, name="openmp-extra", daemon=True)
        self.thread.start()

    def _sleep(self) -> None:
        # All threads of this parallel region wait at the semaphore; with the one that began it, they end.
        self.openmp.GOMP_parallel(self.libc.sem_wait, self.semaphore, self.count, 0)

    def let_go(self) -> None:
        for _ in range(self.count):
            self.libc.sem_post(self.semaphore)
        self.thread.join()


class Watch:
    """Looks now and then whether this process's threads get the processors that they want."""

    def __init__(self):
        self.extras: list[Extra] = []
        self.ended = threading.Event()
        self.hold = HOLD
        self.thread = threading.Thread(target=self.run, name="openmp-watch", daemon=True)
        self.thread.start()
        atexit.register(self.end)  # no thread runs on while the libraries end

    def run(self) -> None:
        before, used, then = waited(), time.process_time(), time.monotonic()
        changed = then
        while not self.ended.wait(INTERVAL):
            total, processor, now = waited(), time.process_time(), time.monotonic()
            share, computed = (total - before) / (now - then), (processor - used) / (now - then)
            before, used, then = total, processor, now
            if computed < IDLE:
                continue  # a process that does nothing waits for nothing: what held before still does
            if not self.extras and share > BUSY:
                self.hold = min(2 * self.hold, LONGEST_HOLD) if now - changed < self.hold else HOLD
                changed = now
                self.sleep()
            elif self.extras and share < QUIET and now - changed > self.hold:
                changed = now
                self.wake()
        self.wake()

    def sleep(self) -> None:
        self.extras = [Extra(library) for library in libraries()]
        for extra in self.extras:
            extra.hold()

    def wake(self) -> None:
        for extra in self.extras:
            extra.let_go()
        self.extras = []

    def end(self) -> None:
        self.ended.set()
        self.thread.join()


def possible() -> bool:
    """Whether Linux tells how long threads wait, and neither of OpenMP's own variables says how they are to."""
    return Path("/proc/self/schedstat").exists() and not any(os.environ.get(name) for name in CHOSEN)


def waited() -> float:
    """Seconds that all threads of this process together were ready to run and had no processor."""
    total = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])
        except (OSError, ValueError, IndexError):  # a thread that has just ended
            continue
    return total / 1e9


def libraries() -> list[str]:
    """The GNU OpenMP libraries that are loaded in this process; PyTorch brings one of its own."""
    maps = Path("/proc/self/maps")
    return sorted(set(re.findall(r"/\S*/libgomp[-.]\S*", maps.read_text()))) if maps.exists() else []
