"""Some rivals side by side, each in a fresh process, asked in turn: A B C A B C."""

import time
from collections.abc import Callable

from detr_jittor.align.worker import Worker, WorkerError
from detr_jittor.bench.numbers import Row
from detr_jittor.bench.rivals import RIVALS
from detr_jittor.bench.tasks import EngineTask, LimitTask, TwinTask
from detr_jittor.config.options import Config
from detr_jittor.errors import DetrError
from detr_jittor.types import Batch

LIMIT = "limit"  # the process that measures what the processor can do
LONGEST = 400  # seconds for one answer; torch.compile takes 80 on a quiet machine
PAUSE = 0.05  # seconds between two that are asked, for threads that still wait actively


class Clock:
    """How much time is left."""

    def __init__(self, seconds: float | None):
        self.end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        return float("inf") if self.end is None else self.end - time.monotonic()


class Group:
    def __init__(self, clock: Clock, threads: int, tell: Callable[[str], None]):
        self.clock, self.threads, self.tell = clock, threads, tell
        self.workers: dict[str, Worker] = {}
        self.failures: dict[str, str] = {}  # who dropped out, and why

    def add(self, key: str, config: Config, num_classes: int, model: bytes | str | None = None,
            environment: dict[str, str | None] | None = None) -> None:
        """Start one. Args: model: of an engine, the exported model, or why there is none."""
        rival = RIVALS[key]
        if isinstance(model, str):
            self.fail(key, model)
        elif rival.is_twin:
            self.start(key, TwinTask, rival, config, num_classes, environment=environment)
        else:
            self.start(key, EngineTask, rival, model, self.threads)

    def add_limit(self) -> None:
        self.start(LIMIT, LimitTask)

    def start(self, key: str, task: type, *args, environment: dict[str, str | None] | None = None) -> None:
        variables = {"OMP_NUM_THREADS": str(self.threads), **(environment or {})}
        self.workers[key] = Worker(key, task, *args, environment=variables)

    def ask(self, key: str, method: str, *args):
        """The answer; None from one that has dropped out, or does so now."""
        if key not in self.workers:
            return None
        try:
            if self.clock.left() <= 0:
                raise WorkerError("the time is up")
            return self.workers[key].ask(method, *args, limit=min(LONGEST, self.clock.left()))
        except (WorkerError, DetrError) as error:
            self.fail(key, " ".join(str(error).split())[:300])
            return None

    def leave(self, key: str) -> None:
        if key in self.workers:
            self.workers.pop(key).close()

    def fail(self, key: str, reason: str) -> None:
        self.failures[key] = reason
        self.leave(key)
        title = RIVALS[key].title if key in RIVALS else key
        self.tell(f"    {title}: not measured: {reason}")

    def put(self, name: str, batch: Batch) -> None:
        for key in self.members:
            self.ask(key, "put", name, batch)

    @property
    def members(self) -> list[str]:
        """Those that are still there, without the process that measures the limit."""
        return [key for key in self.workers if key != LIMIT]

    def in_turn(self, method: str, name: str, rounds: int, *more) -> dict[str, list]:
        """{who: an answer a round}"""
        found: dict[str, list] = {key: [] for key in self.workers}
        for _ in range(rounds):
            for key in list(self.workers):
                time.sleep(PAUSE)
                asked = ("infer", name) if key == LIMIT else (method, name, *more)
                answer = self.ask(key, *asked)
                if answer is not None:
                    found[key].append(answer)
        return found

    def rows(self, name: str, couples: list[tuple[str, str]], found: dict[str, list[float]], **options) -> list[Row]:
        """A line for each couple (ours, rival), with the reason where one was not measured."""
        rows = []
        for ours, rival in couples:
            pairs = list(zip(found.get(ours, []), found.get(rival, [])))
            reasons = [f"{RIVALS[key].title}: {self.failures[key]}" for key in (ours, rival) if key in self.failures]
            rows.append(Row(name, RIVALS[rival].title, pairs, ours=RIVALS[ours].title, note="; ".join(reasons),
                            **options))
        return rows

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()
