"""An object in a process of its own, asked through shared memory, so that no framework's settings reach another's.

The parent process imports no framework.
"""

import multiprocessing
import os
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager

from detr_jittor.data import transport
from detr_jittor.errors import DetrError


class WorkerError(Exception):
    """What went wrong over there, in one line; `details` is the traceback."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details

    def __reduce__(self):
        return WorkerError, (str(self), self.details)


class Worker:
    """The parent's end: `worker.ask("infer", "480×640")` calls that method of the object over there."""

    def __init__(self, name: str, task: type, *args, environment: dict[str, str | None] | None = None):
        """
        Args:
            task, args: made in the process, when it is asked for the first time.
            environment: variables that only this process has, or with None has not.
        """
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, task, args), daemon=True)
        with changed_environment(environment or {}):
            self.process.start()
        theirs.close()

    def ask(self, method: str, *args, limit: float | None = None, **options):
        """
        Args: limit: seconds; a process that has not answered by then is ended. None: for ever.

        Errors: WorkerError for whatever goes wrong over there, DetrError for a fault of the input.
        """
        try:
            transport.send(self.connection, (method, args, options))
            if not self.connection.poll(None if limit is None else max(limit, 0)):
                self.process.kill()
                raise WorkerError(f"no answer within {limit:.0f} s")
            answer = transport.receive(self.connection)
        except (EOFError, OSError, RuntimeError):
            raise WorkerError(f"the process of {self.name} ended without an answer to {method}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.connection.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def changed_environment(variables: dict[str, str | None]) -> Iterator[None]:
    """The process environment with these variables set, or with None absent, until the end of the block."""
    before = dict(os.environ)
    try:
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def serve(connection, task: type, args: tuple) -> None:
    """The child's loop: until the parent hangs up."""
    os.dup2(2, 1)  # what frameworks print is no part of the parent's table
    made = None
    with closing(connection):
        while True:
            try:
                method, arguments, options = transport.receive(connection)
            except (EOFError, OSError, RuntimeError):
                return
            try:
                made = made or task(*args)
                answer = getattr(made, method)(*arguments, **options)
            except DetrError as error:
                answer = error
            except Exception as error:
                first = next(iter(str(error).strip().splitlines()), "")
                answer = WorkerError(f"{type(error).__name__}: {first}"[:300], traceback.format_exc())
            transport.send(connection, answer)
