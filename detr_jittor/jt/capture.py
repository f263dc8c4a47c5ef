"""What the alignment looks at inside the Jittor twin: outputs of modules, costs, losses, gradients, single updates.

B batch, L decoder layers, Q queries, ΣT objects of the batch.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from detr_jittor.config.options import OptimConfig
from detr_jittor.jt import backbone, box_decoder, kernels, segmentation, transformer
from detr_jittor.jt.dropout import Dropout, seed_dropout
from detr_jittor.jt.layers import Linear, set_training
from detr_jittor.jt.optim import Optimizer
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.twin.recorder import Gradients, Kinks, Recorder, listening, replaced, some_queries
from detr_jittor.types import Batch

MLPS = ("bbox_embed", "box_delta", "box_heads", "box_position", "query_scale")  # of linear layers in a row


def version() -> str:
    return f"jittor {jt.__version__}"


def numpy(x) -> np.ndarray:
    return x.numpy()


def held(twin: JittorTwin, batch: Batch) -> dict[str, np.ndarray]:
    """A batch after it has been handed to the framework."""
    boxes = np.concatenate([t.boxes for t in batch.targets])
    return {"images": numpy(jt.array(batch.images)), "mask": numpy(jt.array(batch.mask)),
            "boxes": numpy(jt.array(boxes))}


@contextmanager
def recording(model) -> Iterator[Recorder]:
    """Record every module's output, and that of the fused steps, while the model runs."""
    modules = [(path.removeprefix("detr."), module) for path, module in model.named_modules()]  # the same with masks
    recorder = Recorder(modules)
    with ExitStack() as stack:
        for path, module in modules:
            if is_recorded(path, module):
                module.register_forward_hook(lambda m, _, output, options=None, path=path: recorder.put(path, output))
                stack.callback(module.remove_forward_hook)
        for owner, name, heard in (
            # inside the backbone the kernels may keep a layout of their own
            (backbone, "conv_norm",
             lambda y, x, conv, norm, *_, **__: recorder.put(recorder.path_of[id(norm)], kernels.leave(y))),
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
    """Not the layers inside fused steps, which have no output of their own, and dropout."""
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


def prepare(twin: JittorTwin, seed: int | None) -> None:
    """Training mode with the dropout masks of a step seed; None: evaluation mode."""
    twin.choice.serve()
    set_training(twin.model, seed is not None)
    if seed is not None:
        seed_dropout(twin.model, seed)


def modules(twin: JittorTwin, batch: Batch) -> dict[str, np.ndarray]:
    """{path: output} of every module in evaluation mode, the model's `logits` and `boxes`, some `masks`."""
    prepare(twin, None)
    with jt.no_grad():
        with recording(twin.model) as recorder:
            logits, boxes, *seen = twin.forward(batch)
            rows = some_queries(logits.shape[1] * logits.shape[2])
            masks = {"masks": twin.model.masks(*seen, rows)} if twin.config.model.masks else {}
        outputs = {**recorder.found, "logits": logits, "boxes": boxes, **masks}
        return {path: numpy(y) for path, y in outputs.items()}


def matching(twin: JittorTwin, batch: Batch, seed: int | None) -> tuple[np.ndarray, list]:
    """(the cost of every query against every object [L, B, Q, ΣT], the assignment of the layers with losses)"""
    prepare(twin, seed)
    with jt.no_grad():
        outputs = twin.forward(batch)
        labels = np.concatenate([t.labels for t in batch.targets])
        targets = jt.array(np.concatenate([t.boxes for t in batch.targets]))
        cost = twin.criterion.matching_cost(*outputs[:2], labels, targets)
        return numpy(cost), twin.match(outputs, batch)


def losses(twin: JittorTwin, batch: Batch, indices, rest=()) -> dict[str, float]:
    """Every loss term of every layer and their sum, in evaluation mode, for a given assignment.

    Args: rest: as the criterion's.
    """
    prepare(twin, None)
    with jt.no_grad():
        return twin.log(*losses_of(twin, batch, indices, rest))


def losses_of(twin: JittorTwin, batch: Batch, indices, rest=()) -> tuple:
    """What `twin.losses` gives for a given assignment."""
    noisy = twin.copies(batch)
    return twin.losses(twin.forward(batch, *noisy), batch, indices, rest, noisy=noisy)


def gradients(twin: JittorTwin, batch: Batch, indices, seed: int, sides=None, rest=()) -> Gradients:
    """Gradients of the weighted loss in training mode, for a given assignment, before clipping.

    Args: sides: None; this twin takes its own side of every kink, and the truth follows it. rest: as the criterion's.
    """
    prepare(twin, seed)
    with taking_sides(sides) as kinks:
        twin.zero_grad()
        twin.backward(losses_of(twin, batch, indices, rest)[2])
        found = {n: numpy(g) for n, g in zip(twin.trained, twin.optimizer.added)}
        kinks.pack(numpy)
    twin.zero_grad()
    return Gradients(found, kinks)


def step(twin: JittorTwin, batch: Batch, indices, seed: int) -> tuple[dict[str, float], list[np.ndarray]]:
    """(log, what every ReLU let through) of a training step with a given assignment."""
    with (taking_sides(None) as kinks, replaced(twin, "match", lambda *_: indices),
          listening(twin, "backward", lambda *_: kinks.pack(numpy))):  # computed before the weights change
        return twin.train_step(batch, seed, 1.0), kinks.sides


@contextmanager
def taking_sides(sides: None) -> Iterator[Kinks]:
    """Note what every ReLU lets through, in the order in which they run."""
    kinks = Kinks()

    def convolution(y, x, conv, norm, residual=None, relu=True):
        if relu:
            kinks.sides.append(kernels.leave(y.detach()) > 0)

    def feed_forward(y, layer, x):
        hidden = kernels.linear(x.detach(), layer.linear1.weight.detach(), layer.linear1.bias.detach(), relu=True)
        kinks.sides.append(hidden > 0)

    def linear(y, layer, x, relu=False):
        if relu:
            kinks.sides.append(y.detach() > 0)

    def mask_head(y, x, conv, norm):
        kinks.sides.append(y.detach() > 0)

    with (listening(backbone, "conv_norm", convolution), listening(Linear, "execute", linear),
          listening(transformer.FeedForward, "feed_forward", feed_forward),
          listening(segmentation, "conv_norm", mask_head)):
        yield kinks


def update(twin: JittorTwin, gradients: dict[str, np.ndarray], lr_factor: float) -> float:
    """One optimizer step with given gradients. Returns their norm before clipping."""
    twin.choice.serve()
    twin.zero_grad()
    twin.backward(given_gradients(twin.trained, gradients))
    return twin.update(lr_factor)


def given_gradients(parameters: dict, gradients: dict[str, np.ndarray]):
    """A number whose gradients are the given ones."""
    return sum((p * jt.array(gradients[n])).sum() for n, p in parameters.items())


def learning_rates(optim: OptimConfig, factors: list[float]) -> list[tuple[float, float]]:
    """The learning rates (transformer, backbone) that are really applied, read off the first update of a weight 0."""
    applied = []
    for factor in factors:
        parameters = {n: jt.zeros(1) for n in ("class_embed.bias", "backbone.weight")}
        gradients = {n: np.ones(1, np.float32) for n in parameters}
        optimizer = Optimizer(parameters, optim)
        optimizer.backward(given_gradients(parameters, gradients))
        optimizer.step(factor)
        applied.append(tuple(-p.item() for p in parameters.values()))
    return applied
