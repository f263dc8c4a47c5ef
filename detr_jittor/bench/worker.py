"""A process of its own for whatever is timed, asked through a pipe, so that no rival's settings reach another's."""

import multiprocessing
import os
import traceback
from contextlib import closing

from detr_jittor.errors import DetrError


class WorkerError(Exception):
    """What went wrong over there, in one line; `details` is the traceback."""

    def __init__(self, message: str, details: str = ""):
        super().__init__(message)
        self.details = details

    def __reduce__(self):
        return WorkerError, (str(self), self.details)


class Worker:
    """The parent's end: `worker.ask("infer", "480×640")` calls that method of the task over there."""

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
        before = dict(os.environ)
        try:
            for variable, value in (environment or {}).items():
                os.environ.pop(variable, None)
                if value is not None:
                    os.environ[variable] = value
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def ask(self, method: str, *args, limit: float):
        """
        Args: limit: seconds; a process that has not answered by then is ended.

        Errors: WorkerError for whatever goes wrong over there.
        """
        try:
            self.connection.send((method, args))
            if not self.connection.poll(max(limit, 0)):
                self.process.kill()
                raise WorkerError(f"no answer within {limit:.0f} s")
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise WorkerError("the process ended without an answer") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.connection.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def serve(connection, task: type, args: tuple) -> None:
    """The child's loop: until the parent hangs up."""
    os.dup2(2, 1)  # what frameworks print is no part of the table
    made = None
    with closing(connection):
        while True:
            try:
                method, arguments = connection.recv()
            except (EOFError, OSError):
                return
            try:
                made = made or task(*args)
                answer = getattr(made, method)(*arguments)
            except DetrError as error:
                answer = WorkerError(str(error)[:300])
            except Exception as error:
                first = next(iter(str(error).strip().splitlines()), "")
                answer = WorkerError(f"{type(error).__name__}: {first}"[:300], traceback.format_exc())
            connection.send(answer)
