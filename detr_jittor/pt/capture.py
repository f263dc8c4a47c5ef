"""What the alignment looks at inside the PyTorch twin: outputs of modules, costs, losses, gradients, single updates.

B batch, L decoder layers, Q queries, ΣT objects of the batch.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from detr_jittor.config.options import OptimConfig
from detr_jittor.pt import backbone, box_decoder, transformer
from detr_jittor.pt.dropout import Dropout, seed_dropout
from detr_jittor.pt.optim import Optimizer
from detr_jittor.pt.twin import PyTorchTwin
from detr_jittor.twin.recorder import Gradients, Kinks, Recorder, listening, replaced, some_queries
from detr_jittor.types import Batch

MLPS = ("bbox_embed", "box_delta", "box_heads", "box_position", "query_scale")  # of linear layers in a row


def version() -> str:
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def numpy(x) -> np.ndarray:
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # NumPy has no bfloat16


def held(twin: PyTorchTwin, batch: Batch) -> dict[str, np.ndarray]:
    """A batch after it has been handed to the framework."""
    boxes = np.concatenate([t.boxes for t in batch.targets])
    return {"images": numpy(torch.as_tensor(batch.images)), "mask": numpy(torch.as_tensor(batch.mask)),
            "boxes": numpy(torch.as_tensor(boxes))}


@contextmanager
def recording(model) -> Iterator[Recorder]:
    """Record every module's output, and that of the steps that the Jittor twin fuses, while the model runs."""
    modules = [(path.removeprefix("detr."), module) for path, module in model.named_modules()]  # the same with masks
    recorder = Recorder(modules)
    with ExitStack() as stack:
        for path, module in modules:
            if is_recorded(path, module):
                hook = module.register_forward_hook(lambda m, _, output, path=path: recorder.put(path, output))
                stack.callback(hook.remove)
        for owner, name, heard in (
            (backbone, "conv_norm", lambda y, x, conv, norm, *_, **__: recorder.put(recorder.path_of[id(norm)], y)),
            (backbone, "shrink_mask", lambda y, *_: recorder.put("backbone.mask", y)),
            (transformer, "attention", lambda y, *inputs: put_attention(recorder, y, *inputs)),
            (box_decoder, "sampled_attention",
             lambda y, *inputs: put_samples(recorder, y, *inputs)),
            (transformer.FeedForward, "feed_forward",
             lambda y, layer, x: recorder.put(f"{recorder.path_of[id(layer)]}.feed_forward", y)),
        ):
            stack.enter_context(listening(owner, name, heard))
        yield recorder


def is_recorded(path: str, module) -> bool:
    """Not what the Jittor twin has no output for: the layers inside fused steps, and dropout."""
    parts = path.split(".")
    inside = path.startswith("backbone.0") or parts[-1] in ("linear1", "linear2") or (
        "layers" in parts and not set(MLPS).isdisjoint(parts))
    return path not in ("", "backbone") and not inside and not isinstance(module, Dropout)


def put_attention(recorder: Recorder, output, q, k, v, mask, nheads: int, dropout) -> None:
    path = recorder.path_of[id(dropout)].removesuffix(".dropout")
    for name, value in (("q", q), ("k", k), ("v", v), ("heads", output)):
        recorder.put(f"{path}.{name}", value)


def put_samples(recorder: Recorder, output, content, place, maps, boxes, extent, dropout) -> None:
    path = recorder.path_of[id(dropout)].removesuffix(".dropout")
    for name, value in (("content", content), ("place", place), ("maps", maps), ("boxes", boxes), ("extent", extent),
                        ("samples", output)):
        recorder.put(f"{path}.{name}", value)


def prepare(twin: PyTorchTwin, seed: int | None) -> None:
    """Training mode with the dropout masks of a step seed; None: evaluation mode."""
    twin.model.train(seed is not None)
    seed_dropout(twin.model, seed)


@torch.no_grad()
def modules(twin: PyTorchTwin, batch: Batch) -> dict[str, np.ndarray]:
    """{path: output} of every module in evaluation mode, the model's `logits` and `boxes`, some `masks`."""
    prepare(twin, None)
    with recording(twin.model) as recorder:
        logits, boxes, *seen = twin.forward(batch)
        rows = some_queries(logits.shape[1] * logits.shape[2])
        masks = {"masks": twin.model.masks(*seen, rows)} if twin.config.model.masks else {}
    outputs = {**recorder.found, "logits": logits, "boxes": boxes, **masks}
    return {path: numpy(y) for path, y in outputs.items()}


@torch.no_grad()
def matching(twin: PyTorchTwin, batch: Batch, seed: int | None) -> tuple[np.ndarray, list]:
    """(the cost of every query against every object [L, B, Q, ΣT], the assignment of the layers with losses)"""
    prepare(twin, seed)
    outputs = twin.forward(batch)
    labels = np.concatenate([t.labels for t in batch.targets])
    targets = torch.as_tensor(np.concatenate([t.boxes for t in batch.targets]), dtype=outputs[1].dtype)
    cost = twin.criterion.matching_cost(*outputs[:2], labels, targets.to(outputs[1].device))
    return numpy(cost), twin.match(outputs, batch)


@torch.no_grad()
def losses(twin: PyTorchTwin, batch: Batch, indices, rest=()) -> dict[str, float]:
    """Every loss term of every layer and their sum, in evaluation mode, for a given assignment.

    Args: rest: as the criterion's.
    """
    prepare(twin, None)
    return twin.log(*losses_of(twin, batch, indices, rest))


def losses_of(twin: PyTorchTwin, batch: Batch, indices, rest=()) -> tuple:
    """What `twin.losses` gives for a given assignment."""
    noisy = twin.copies(batch)
    return twin.losses(twin.forward(batch, *noisy), batch, indices, rest, noisy=noisy)


def gradients(twin: PyTorchTwin, batch: Batch, indices, seed: int, sides=None, rest=()) -> Gradients:
    """Gradients of the weighted loss in training mode, for a given assignment, before clipping.

    Args: sides: of another twin, to take the same side of every kink: the gradient of ReLU jumps at 0, so that a last
        digit there changes gradients by far more than a last digit. rest: as the criterion's.
    """
    prepare(twin, seed)
    twin.zero_grad()
    with taking_sides(sides) as kinks:
        twin.backward(losses_of(twin, batch, indices, rest)[2])
    return Gradients({n: numpy(p.grad) for n, p in twin.trained.items()}, kinks)


def step(twin: PyTorchTwin, batch: Batch, indices, seed: int) -> tuple[dict[str, float], list[np.ndarray]]:
    """(log, what every ReLU let through) of a training step with a given assignment."""
    with taking_sides(None) as kinks, replaced(twin, "match", lambda *_: indices):
        return twin.train_step(batch, seed, 1.0), kinks.sides


@contextmanager
def taking_sides(sides: list[np.ndarray] | None) -> Iterator[Kinks]:
    """Note what every ReLU lets through; with given sides, make it let those through."""
    kinks = Kinks()
    relu = F.relu

    def noting(x):
        y = relu(x)
        kinks.sides.append(np.packbits(numpy(y > 0)))
        return y

    def obeying(x):
        through = np.unpackbits(sides[len(kinks.sides)], count=x.numel()).reshape(x.shape).astype(bool)
        kinks.note(through, numpy(x))
        return x * torch.as_tensor(through, device=x.device)

    with replaced(F, "relu", noting if sides is None else obeying):
        yield kinks


def update(twin: PyTorchTwin, gradients: dict[str, np.ndarray], lr_factor: float) -> float:
    """One optimizer step with given gradients. Returns their norm before clipping."""
    twin.zero_grad()
    twin.backward(given_gradients(twin.trained, gradients))
    return twin.update(lr_factor)


def given_gradients(parameters: dict, gradients: dict[str, np.ndarray]):
    """A number whose gradients are the given ones."""
    return sum((p * torch.as_tensor(gradients[n], dtype=p.dtype, device=p.device)).sum() for n, p in parameters.items())


def learning_rates(optim: OptimConfig, factors: list[float]) -> list[tuple[float, float]]:
    """The learning rates (transformer, backbone) that are really applied, read off the first update of a weight 0."""
    applied = []
    for factor in factors:
        parameters = {n: torch.nn.Parameter(torch.zeros(1)) for n in ("class_embed.bias", "backbone.weight")}
        gradients = {n: np.ones(1, np.float32) for n in parameters}
        optimizer = Optimizer(parameters, optim)
        optimizer.backward(given_gradients(parameters, gradients))
        optimizer.step(factor)
        applied.append(tuple(-p.item() for p in parameters.values()))
    return applied
