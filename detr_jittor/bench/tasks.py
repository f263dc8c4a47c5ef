"""What is asked of the processes that are timed. Everything that crosses is NumPy; the seconds are taken over here,
from NumPy pictures to NumPy results."""

import ctypes
import importlib
import itertools
import time
from collections.abc import Iterator

import numpy as np

from detr_jittor.bench import kernels
from detr_jittor.bench.rivals import Rival
from detr_jittor.bench.stages import stages
from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import load_twin, part
from detr_jittor.jt.setup import machine, onednn
from detr_jittor.report.progress import peak_memory
from detr_jittor.twin import processor
from detr_jittor.twin.seeding import step_seed
from detr_jittor.twin.synthetic import conditioned
from detr_jittor.types import Batch, State

LIMIT_SIDE = 2048  # of the matrices whose product is the limit


class Task:
    """What all have in common: batches by name, and memory."""

    def __init__(self):
        self.batches: dict[str, Batch] = {}

    def put(self, name: str, batch: Batch) -> None:
        self.batches[name] = batch

    def peak_memory(self) -> float:
        """MB"""
        return peak_memory()


class TwinTask(Task):
    """A twin in one setting."""

    def __init__(self, rival: Rival, config: Config, num_classes: int):
        super().__init__()
        self.config = rival.settings(config)
        self.twin = load_twin(rival.framework)(self.config, num_classes)
        self.timing = part(rival.framework, "timing")
        self.timing.apply_setting(self.twin, rival.setting)
        self.steps = 0

    def identity(self) -> str:
        slow = self.timing.reference_primitives()
        return (f"{self.twin.name} on {self.twin.device}, kernels: {self.twin.kernels}"
                + f", {slow} layers by oneDNN's reference code" * bool(slow))

    def take_weights(self) -> None:
        """Random weights with which activations stay near 1, the same in both twins."""
        shapes = {name: value.shape for name, value in self.twin.state().model.items()}
        self.twin.load(State(conditioned(shapes, self.config.run.seed), {}))

    def train(self, name: str, repeat: int = 1) -> tuple[float, float]:
        """(seconds of a training step, mean of `repeat`; the last one's loss)"""
        batch = self.batches[name]
        began = time.perf_counter()
        for _ in range(repeat):
            log = self.twin.train_step(batch, step_seed(self.config.run.seed, self.steps), 1.0)
            self.steps += 1
        self.timing.finish()
        seconds = (time.perf_counter() - began) / repeat
        if not np.isfinite([log["loss"], log["grad_norm"]]).all():
            raise DetrError(f"the loss is {log['loss']}, the gradient's norm {log['grad_norm']}: no step was taken.")
        return seconds, log["loss"]

    def infer(self, name: str, repeat: int = 1) -> float:
        """Seconds of a forward pass"""
        batch = self.batches[name]
        began = time.perf_counter()
        for _ in range(repeat):
            self.twin.predict(batch)
        return (time.perf_counter() - began) / repeat

    def logits(self, name: str) -> np.ndarray:
        return self.twin.predict(self.batches[name]).logits

    def stages(self, name: str) -> dict[str, float]:
        self.steps += 1
        seed = step_seed(self.config.run.seed, self.steps)
        return stages(self.twin, self.batches[name], seed, self.timing.finish)

    def kernel(self, name: str, repeat: int) -> float:
        """Seconds of one kernel, forward and all gradients, mean of `repeat`"""
        self.kernels = getattr(self, "kernels", None) or kernels.calls(self.twin.name)
        began = time.perf_counter()
        for _ in range(repeat):
            self.kernels[name]()
        return (time.perf_counter() - began) / repeat

    def data(self, split: str) -> float:
        """Seconds to make a batch: read, decode, augment, pad."""
        self.loader = getattr(self, "loader", None) or self.endless_batches(split)
        began = time.perf_counter()
        next(self.loader)
        return time.perf_counter() - began

    def endless_batches(self, split: str) -> Iterator[Batch]:
        config = self.config.replace(num_workers=0)
        loader = Loader(open_split(config.data, split), config.data, config.optim.batch_size, True, config.run.seed)
        for epoch in itertools.count():
            yield from loader.epoch(epoch)

    def save(self, path: str) -> None:
        """The weights as a checkpoint from which a run can start."""
        store.save(path, Checkpoint(State(self.twin.state().model, {}), config=self.config))

    def export(self) -> bytes:
        """The model as the content of an ONNX file."""
        return part(self.twin.name, "export").to_onnx(self.twin.model, self.config.model.masks)


class EngineTask(Task):
    """An engine that people deploy with, on the exported model."""

    def __init__(self, rival: Rival, model: bytes, threads: int):
        super().__init__()
        make = {"onnxruntime": onnx_runtime, "openvino": openvino}[rival.framework]
        self.make = lambda batch: make(model, rival.setting, threads, batch)
        self.made: dict[str, object] = {}

    def put(self, name: str, batch: Batch) -> None:
        super().put(name, batch)
        self.made[name] = self.make(batch)

    def identity(self) -> str:
        return ""

    def infer(self, name: str, repeat: int = 1) -> float:
        batch, run = self.batches[name], self.made[name]
        began = time.perf_counter()
        for _ in range(repeat):
            run(batch)
        return (time.perf_counter() - began) / repeat

    def logits(self, name: str) -> np.ndarray:
        return self.made[name](self.batches[name])[0]


def onnx_runtime(model: bytes, precision: str, threads: int, batch: Batch):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda b: session.run(None, {"images": b.images, "mask": b.mask})


def openvino(model: bytes, precision: str, threads: int, batch: Batch):
    """For this shape alone, which is the fastest that it can be."""
    from openvino import Core

    core = Core()
    network = core.read_model(model)
    network.reshape({"images": list(batch.images.shape), "mask": list(batch.mask.shape)})
    compiled = core.compile_model(network, "CPU", {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()

    def run(b: Batch) -> list[np.ndarray]:
        found = request.infer({"images": b.images, "mask": b.mask})
        return [np.array(found[compiled.output(i)]) for i in range(2)]

    return run


class CoreTask:
    """Has Jittor compile what it compiles when it is imported, and nothing else."""

    def ready(self) -> bool:
        importlib.import_module("detr_jittor.jt.setup.runtime")
        return True


class LimitTask:
    """What the processor can do at most: a large matrix product of the oneDNN that Jittor's kernels use."""

    def __init__(self):
        processor.prepare()
        library = onednn.folder(machine.choose_home()[0]) / "lib" / onednn.LIBRARY
        try:
            self.sgemm = ctypes.CDLL(str(library)).dnnl_sgemm
        except OSError:
            raise DetrError(f"{library}: there is no oneDNN to measure the limit with.") from None
        c, n, f = ctypes.c_char, ctypes.c_int64, ctypes.c_float
        p = np.ctypeslib.ndpointer(np.float32, 2, flags="C")
        self.sgemm.argtypes = [c, c, n, n, n, f, p, n, p, n, f, p, n]
        self.a, self.b = np.random.default_rng(0).standard_normal((2, LIMIT_SIDE, LIMIT_SIDE)).astype(np.float32)
        self.c = np.zeros_like(self.a)

    def infer(self, name: str, repeat: int = 1) -> float:
        """Seconds of one product"""
        n, best = LIMIT_SIDE, float("inf")
        for _ in range(3):
            began = time.perf_counter()
            status = self.sgemm(b"N", b"N", n, n, n, 1.0, self.a, n, self.b, n, 0.0, self.c, n)
            best = min(best, time.perf_counter() - began)
            if status:
                raise DetrError(f"oneDNN's sgemm answers {status}.")
        return best
