"""Trackers that a run tells its figures besides its own log: TensorBoard, SwanLab, Weights & Biases and MLflow.

Each is a class that opens with the run's folder, takes the figures of a step or of an epoch, and closes. What goes
wrong in one of them is said once and never ends the run. Where they send the figures, and whether they send them at
all, is said in their own ways: `swanlab login` or SWANLAB_MODE, `wandb login` or WANDB_MODE, MLFLOW_TRACKING_URI.
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from detr_jittor.errors import DetrError
from detr_jittor.extras import package
from detr_jittor.report.replacing import replacing
from detr_jittor.report.scalars import ScalarWriter

PROJECT = "detr-jittor"
IDENTITIES = "trackers.json"  # {tracker: what it calls this run}, so that a run that goes on keeps its curves


class Tracker(Protocol):
    identity: str  # what the tracker calls this run, "" if nothing

    def __init__(self, folder: Path, settings: dict, identity: str):
        """Args: folder: the run's. settings: {option: value}. identity: of the run that goes on, or ""."""

    def add(self, kind: str, number: int, values: dict[str, float]) -> None:
        """The figures of a step or an epoch. Args: kind: "step" or "epoch". number: which one."""

    def close(self) -> None: ...


class TensorBoard:
    identity = ""

    def __init__(self, folder: Path, settings: dict, identity: str):
        self.writer = ScalarWriter(folder / "tensorboard")

    def add(self, kind: str, number: int, values: dict[str, float]) -> None:
        self.writer.add(named(kind, values), number)

    def close(self) -> None:
        self.writer.close()


class SwanLab:
    def __init__(self, folder: Path, settings: dict, identity: str):
        swanlab = package("swanlab", "track", "--track swanlab")
        known = {"id": identity, "resume": "allow"} if identity else {}
        self.run = swanlab.init(project=PROJECT, name=folder.name, log_dir=str(folder / "swanlab"), config=settings,
                                **known)
        self.identity = str(self.run.id)

    def add(self, kind: str, number: int, values: dict[str, float]) -> None:
        self.run.log(named(kind, values), step=number)

    def close(self) -> None:
        self.run.finish()


class WandB:
    def __init__(self, folder: Path, settings: dict, identity: str):
        wandb = package("wandb", "track", "--track wandb")
        known = {"id": identity, "resume": "allow"} if identity else {}
        self.run = wandb.init(project=PROJECT, name=folder.name, dir=str(folder), config=settings,
                              settings=wandb.Settings(console="off", silent=True), **known)
        self.identity = self.run.id
        for kind in ("step", "epoch"):  # its own count of steps may not go back, as ours does after a kill
            self.run.define_metric(kind)
            self.run.define_metric(f"{kind}/*", step_metric=kind)

    def add(self, kind: str, number: int, values: dict[str, float]) -> None:
        self.run.log({kind: number, **named(kind, values)})

    def close(self) -> None:
        self.run.finish()


class MLflow:
    def __init__(self, folder: Path, settings: dict, identity: str):
        self.mlflow = package("mlflow", "track", "--track mlflow")
        self.mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or
                                     f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        self.mlflow.set_experiment(PROJECT)
        run = self.mlflow.start_run(run_id=identity or None, run_name=folder.name)
        self.identity = run.info.run_id
        if not identity:  # a parameter is told once, and may not change
            self.mlflow.log_params(settings)

    def add(self, kind: str, number: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics(named(kind, values), step=number)

    def close(self) -> None:
        self.mlflow.end_run()


CLASSES: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "swanlab": SwanLab, "wandb": WandB, "mlflow": MLflow}


class Trackers:
    """All that a run tells its figures.

    Errors: of the class DetrError if a package is missing, which is said before anything is trained; else none.
    """

    def __init__(self, names: list[str], folder: Path, settings: dict, goes_on: bool):
        """
        Args:
            settings: {option: value}, for those who show them.
            goes_on: whether the run was there before, so that it is the same one for the trackers.
        """
        self.open: dict[str, Tracker] = {}
        identities = read_identities(folder) if goes_on else {}
        try:
            for name in names:
                with self.surviving(name), as_it_was():
                    self.open[name] = CLASSES[name](folder, settings, identities.get(name, ""))
        except DetrError:
            self.close()
            raise
        found = identities | {name: tracker.identity for name, tracker in self.open.items() if tracker.identity}
        if found:
            with contextlib.suppress(OSError), replacing(folder / IDENTITIES) as temporary:
                temporary.write_text(json.dumps(found))

    def add(self, kind: str, number: int, values: dict[str, float]) -> None:
        self.each(lambda tracker: tracker.add(kind, number, values))

    def close(self) -> None:
        self.each(lambda tracker: tracker.close())
        self.open.clear()

    def each(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.open.items()):
            with self.surviving(name):
                what(tracker)

    @contextlib.contextmanager
    def surviving(self, name: str) -> Iterator[None]:
        """Whatever a tracker raises is said, and the tracker is left out from then on."""
        try:
            yield
        except DetrError:
            raise
        except (Exception, SystemExit) as error:
            self.open.pop(name, None)
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            print(f"warning: --track {name} fails and is left out from here on; the run goes on ({reason}).",
                  file=sys.stderr)


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Give back the handlers of signals that a tracker takes: the run saves what it has learned on Ctrl-C."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = hook
        if threading.current_thread() is threading.main_thread():  # elsewhere Python does not allow it
            for number, handler in handlers.items():
                if handler is not None:  # None: not Python's, and no tracker's either
                    signal.signal(number, handler)


def named(kind: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{kind}/{name}": value for name, value in values.items()}


def read_identities(folder: Path) -> dict[str, str]:
    """Empty where there are none, or none that can be read: the run is a new one for the trackers then."""
    try:
        content = json.loads((folder / IDENTITIES).read_text(encoding="utf-8"))
        return {name: str(identity) for name, identity in content.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
