"""What both twins do alike: the frame of a step, evaluation, and what leaves a twin.

A step is `zero_grad`, then for each part of its batch `forward`, `match`, `losses` and `backward`, then `update`.
Training, alignment and benchmark call these same methods. B batch, Q queries.
"""

from contextlib import contextmanager

import numpy as np

from detr_jittor.errors import DetrError
from detr_jittor.twin import seeding
from detr_jittor.twin.denoising import Noisy, noisy_copies
from detr_jittor.twin.parts import added, parts
from detr_jittor.twin.schedule import average_decay
from detr_jittor.types import Batch, Outputs

QUERIES_AT_ONCE = 20  # queries whose masks are made together in evaluation: memory


class BaseTwin:
    """The methods of `contract.Twin` that need no framework; a twin has the others."""

    is_updating = False  # whether the weights are being changed right now

    @property
    def first_layer(self) -> int:
        """The first decoder layer that has losses"""
        return -1 if self.config.loss.no_aux_loss else 0

    def train_step(self, batch: Batch, seed: int, lr_factor: float) -> dict[str, float]:
        """See `contract.Twin.train_step`."""
        self.prepare(seed)
        self.zero_grad()
        optim, logs = self.config.optim, []
        for part, rest, key in parts(batch, optim.batch_size if optim.accumulate > 1 else len(batch), seed):
            self.seed_dropout(key)
            noisy = self.copies(part)
            outputs = self.forward(part, *noisy)
            indices = self.match(outputs, part, noisy)
            names, values, loss = self.losses(outputs, part, indices, rest, self.processes, noisy)
            logs.append(self.processes.mean_of(self.log(names, values, loss)))
            if not np.isfinite(logs[-1]["loss"]):
                return {**logs[-1], "grad_norm": float("nan")}
            self.backward(loss)
        return {**added(logs), "grad_norm": self.update(lr_factor)}

    def copies(self, batch: Batch) -> tuple[Noisy, ...]:
        """The noisy copies of a batch's objects in the step that comes next, if there are some, the same in all
        processes."""
        model = self.config.model
        if model.decoder == "detr" or not model.denoising:
            return ()
        seed = seeding.step_seed(self.config.run.seed, self.optimizer.steps)
        return (noisy_copies(batch.targets, model.denoising, self.criterion.num_classes, seed),)

    def match(self, outputs, batch: Batch, noisy=()) -> list:
        """The assignment of every decoder layer that has losses. Args: noisy: the copies behind the queries."""
        queries = outputs[0].shape[2] - sum(copies.labels.shape[1] for copies in noisy)
        logits, boxes = (x[self.first_layer:, :, :queries] for x in outputs[:2])
        return self.criterion.match(logits, boxes, batch.targets)

    def zero_grad(self) -> None:
        """Drop what a step that failed has left."""
        self.optimizer.zero_grad()

    def backward(self, loss) -> None:
        """Add the gradients of the loss of a step, or of a part of it."""
        self.optimizer.backward(loss)

    def update(self, lr_factor: float) -> float:
        """One step of the optimizer, and of what follows the weights. Returns: the gradients' norm before clipping."""
        self.is_updating = True
        norm = self.optimizer.step(lr_factor)
        self.average_statistics()
        if self.average and np.isfinite(norm):
            self.average.update(average_decay(self.optimizer.steps))
        self.is_updating = False
        return norm

    @property
    def updates(self) -> int | None:
        """See `contract.Twin.updates`."""
        return None if self.is_updating else self.optimizer.steps

    @contextmanager
    def averaged(self):
        """See `contract.Twin.averaged`."""
        if not self.average:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def evaluate(self, batch: Batch) -> tuple[Outputs, dict[str, float]]:
        """See `contract.Twin.evaluate`."""
        self.prepare(None)
        with self.no_grad():
            outputs = self.forward(batch)
            names, values, loss = self.losses(outputs, batch, self.match(outputs, batch))
            return self.outputs(*outputs), self.log(names, values, loss)

    def predict(self, batch: Batch) -> Outputs:
        """See `contract.Twin.predict`."""
        self.prepare(None)
        with self.no_grad():
            return self.outputs(*self.forward(batch))

    def outputs(self, logits, boxes, *seen) -> Outputs:
        """What leaves the twin: the last decoder layer's, and the masks of all queries."""
        masks = self.masks(*seen, *logits.shape[1:3]) if self.config.model.masks else None
        return Outputs(self.numpy(logits[-1]), self.numpy(boxes[-1]), masks, self.config.model.has_focal)

    def masks(self, seen, b: int, q: int) -> np.ndarray:
        """[B, Q, H / 4, W / 4] the mask logits of all queries, made a few at a time"""
        groups = np.array_split(np.arange(b * q), -(-b * q // QUERIES_AT_ONCE))
        masks = np.concatenate([self.numpy(self.model.masks(seen, rows)) for rows in groups])
        return masks.reshape(b, q, *masks.shape[1:])

    def to_float64(self):
        """See `contract.Twin.to_float64`."""
        raise DetrError(f"the {self.name} twin computes in float32 alone.", "Take the pytorch twin for float64.")
