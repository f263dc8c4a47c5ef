"""A twin in a process of its own: Jittor's, PyTorch's, and PyTorch's in float64."""

import zlib
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from detr_jittor.align.plant import Fault, plant
from detr_jittor.align.worker import Worker
from detr_jittor.config.options import Config
from detr_jittor.twin.recorder import Gradients
from detr_jittor.types import Batch, Detections, Outputs, State


@dataclass(frozen=True)
class Role:
    """Who is to answer."""

    name: str  # as the report calls it
    framework: str  # "jittor" or "pytorch"
    double: bool = False  # in float64
    threads: int | None = None  # None: as many as the framework takes by itself
    precision: str = "float32"  # of --precision
    processes: int = 1  # more of them are a `Group`
    fault: Fault | None = None  # planted before anything is imported


@dataclass(frozen=True)
class Share:
    """What a training step gave in one process."""

    rank: int
    log: dict[str, float]
    weights: int  # checksum
    moments: dict[str, np.ndarray]  # AdamW's exp_avg
    sides: list[np.ndarray]  # what every ReLU let through


class Witness(Worker):
    """The parent's end: `witness.ask("gradients", batch, indices, seed)` calls that method of `Answers`."""

    def __init__(self, role: Role, config: Config, num_classes: int):
        threads = {"OMP_NUM_THREADS": str(role.threads)} if role.threads else {}
        config = config.replace(precision=role.precision)
        super().__init__(role.name, Answers, role, config, num_classes, environment=threads)


class Answers:
    """What a twin is asked. Everything that crosses is NumPy. Imports happen here, after a fault is planted."""

    def __init__(self, role: Role, config: Config, num_classes: int):
        if role.fault:
            plant(role.fault)
        from detr_jittor.frameworks.load import load_twin, part
        from detr_jittor.twin.processes import ALONE

        self.config = config
        kind = load_twin(role.framework)
        self.processes = kind.join(config.run) if role.processes > 1 else ALONE
        self.twin = kind(config, num_classes, self.processes)
        self.capture = part(role.framework, "capture")
        self.start = {name: zlib.crc32(value) for name, value in self.twin.state().model.items()}
        if role.double:
            self.twin.to_float64()

    def identity(self) -> dict[str, str]:
        precision = next(iter(self.twin.state().model.values())).dtype.name
        return {"version": self.capture.version(), "precision": precision, "device": str(self.twin.device),
                "kernels": self.twin.kernels}

    def structure(self) -> dict:
        """Names, shapes, what is trained, the counts, and a checksum of each weight as it was initialised."""
        weights = self.twin.state().model
        return {"shapes": {n: v.shape for n, v in weights.items()}, "trained": sorted(self.twin.trained),
                "n_parameters": self.twin.n_parameters, "numbers": sum(v.size for v in weights.values()),
                "start": self.start}

    def load(self, state: State) -> None:
        self.twin.load(state)

    def read_batches(self, config: Config, split: str, train: bool, count: int) -> list[Batch]:
        """The first batches of a split, read and transformed in this process."""
        from itertools import islice

        from detr_jittor.data.loader import Loader
        from detr_jittor.data.splits import open_split

        index = open_split(config.data, split, config.model.masks)
        loader = Loader(index, config.data, config.optim.batch_size, train, config.run.seed, config.model.masks)
        with closing(loader):
            return list(islice(loader.epoch(0), count))

    def held(self, batch: Batch) -> dict[str, np.ndarray]:
        return self.capture.held(self.twin, batch)

    def modules(self, batch: Batch) -> dict[str, np.ndarray]:
        return self.capture.modules(self.twin, batch)

    def matching(self, batch: Batch, seed: int | None) -> tuple[np.ndarray, list]:
        return self.capture.matching(self.twin, batch, seed)

    def losses(self, batch: Batch, indices, rest=()) -> dict[str, float]:
        return self.capture.losses(self.twin, batch, indices, rest)

    def gradients(self, batch: Batch, indices, seed: int, sides=None, rest=()) -> Gradients:
        return self.capture.gradients(self.twin, batch, indices, seed, sides, rest)

    def update(self, state: State, gradients: dict[str, np.ndarray], lr_factor: float) -> tuple[State, float]:
        """(state after one optimizer step from a state with given gradients, their norm before clipping)"""
        self.twin.load(state)
        norm = self.capture.update(self.twin, gradients, lr_factor)
        return self.twin.state(), norm

    def learning_rates(self, times: list[tuple[int, int]], **options) -> list[tuple[float, float]]:
        """What is applied to transformer and backbone at these times (epoch, step), with other options if given."""
        from detr_jittor.twin.schedule import lr_factor

        optim = replace(self.config.optim, **options)
        return self.capture.learning_rates(optim, [lr_factor(optim, *time) for time in times])

    def step_from(self, state: State, batch: Batch, seed: int) -> tuple[dict[str, float], State]:
        """(log, state after) of one training step from a state."""
        self.twin.load(state)
        return self.twin.train_step(batch, seed, 1.0), self.twin.state()

    def share_step(self, state: State, batch: Batch, indices, seed: int) -> Share:
        """One training step from a state, on this process's part of a batch."""
        from detr_jittor.twin.parts import portions
        from detr_jittor.twin.processes import checksum

        part, _, indices = portions(batch, indices, self.processes.size)[self.processes.rank]
        self.twin.load(state)
        log, sides = self.capture.step(self.twin, part, indices, seed)
        after = self.twin.state()
        moments = {name: first for name, (first, _) in after.optimizer.items()}
        return Share(self.processes.rank, log, checksum(after.model), moments, sides)

    def leave(self) -> None:
        self.processes.leave()

    def free_run(self, state: State, batches: list[Batch], seeds: list[int]) -> list[float]:
        """The loss of every step, from a state on."""
        self.twin.load(state)
        return [self.twin.train_step(batch, seed, 1.0)["loss"] for batch, seed in zip(batches, seeds)]

    def predict(self, batch: Batch) -> Outputs:
        return self.twin.predict(batch)

    def detections(self, batch: Batch) -> list[Detections]:
        """With masks as [N, bytes], a bit a pixel."""
        from detr_jittor.evaluate.postprocess import detections

        found = detections(self.twin.predict(batch), batch.targets)
        for of_picture in found:
            if of_picture.masks is not None:  # a bit a pixel: they cross, and are kept
                of_picture.masks = np.packbits(of_picture.masks.reshape(len(of_picture.masks), -1), axis=1)
        return found

    def average_precision(self, truth, found: list[Detections]) -> float:
        """Args: truth: what `CocoEvaluator` takes for an index."""
        from detr_jittor.evaluate.coco_ap import CocoEvaluator

        evaluator = CocoEvaluator(truth)
        evaluator.add(found)
        return evaluator.summarize().ap
