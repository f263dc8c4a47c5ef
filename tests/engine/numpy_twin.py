"""A twin without a framework: a linear model of a picture's mean colour, with dropout, AdamW and a frozen weight.

Run as a program it is the command line, with this twin in place of the real ones.
"""

import contextlib
import os
import signal
import sys
import time

import numpy as np

from detr_jittor.engine import build, job
from detr_jittor.engine.reporting import Reporting
from detr_jittor.twin import seeding
from detr_jittor.twin.processes import ALONE
from detr_jittor.twin.statedict import check_state
from detr_jittor.types import Batch, Outputs, State

QUERIES = 4
DRAW_CURVES = Reporting.draw_curves


class NumpyTwin:
    name = "numpy"
    checkpoint_suffix = ".pkl"
    kernels = "none"
    device = "cpu"
    join = staticmethod(lambda run: ALONE)
    nan_at: int | None = None  # the step at which the loss is not a number

    def __init__(self, config, num_classes, processes=ALONE):
        self.config, self.num_classes = config, num_classes
        rng = np.random.default_rng(config.run.seed)
        self.model = {
            "class_embed.weight": (rng.standard_normal((num_classes + 1, 3)) / 5).astype(np.float32),
            "class_embed.bias": np.zeros(num_classes + 1, np.float32),
            "backbone.0.body.conv1.weight": rng.standard_normal((2, 3)).astype(np.float32),
            "backbone.0.body.layer2.0.conv1.weight": np.ones(3, np.float32),
        }
        self.trained = [name for name in self.model if "body.conv1" not in name]
        self.moments = {n: (np.zeros_like(self.model[n]), np.zeros_like(self.model[n])) for n in self.trained}
        self.steps = 0
        self.n_parameters = sum(self.model[n].size for n in self.trained)

    @property
    def updates(self):
        return self.steps

    def forward(self, batch: Batch, keep=1.0):
        colours = batch.images.mean((2, 3)) * keep  # [B, 3]
        features = colours * self.model["backbone.0.body.layer2.0.conv1.weight"]
        return colours, features, features @ self.model["class_embed.weight"].T + self.model["class_embed.bias"]

    def losses(self, batch: Batch, keep=1.0):
        colours, features, logits = self.forward(batch, keep)
        wanted = np.zeros_like(logits)
        for row, target in enumerate(batch.targets):
            wanted[row, target.labels] = 1
        error = logits - wanted
        ce = float((error ** 2).sum())
        terms = {"loss": ce + 5 * 0.5 + 2 * 0.25, "loss_ce": ce, "class_error": float(np.abs(error).max()),
                 "loss_bbox": 0.5, "loss_giou": 0.25, "cardinality_error": 1.0, "loss_ce_0": ce}
        return colours, features, error, terms

    def train_step(self, batch, seed, lr_factor):
        time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
        keep = seeding.keep_mask(seeding.dropout_key(seed, 1), 0.5, (len(batch), 3)) * 2.0
        colours, features, error, terms = self.losses(batch, keep.astype(np.float32))
        if self.steps == self.nan_at:
            return {**terms, "loss": float("nan"), "grad_norm": float("nan")}
        gradients = {"class_embed.weight": 2 * error.T @ features, "class_embed.bias": 2 * error.sum(0),
                     "backbone.0.body.layer2.0.conv1.weight":
                         2 * ((error @ self.model["class_embed.weight"]) * colours).sum(0)}
        norm = float(np.sqrt(sum((g ** 2).sum() for g in gradients.values())))
        self.steps += 1
        for name, gradient in gradients.items():
            m, v = self.moments[name]
            m[...] = 0.9 * m + 0.1 * gradient
            v[...] = 0.999 * v + 0.001 * gradient ** 2
            lr = self.config.optim.lr_backbone if "backbone" in name else self.config.optim.lr
            self.model[name] -= lr * lr_factor * (m / (1 - 0.9 ** self.steps)) / (
                np.sqrt(v / (1 - 0.999 ** self.steps)) + 1e-8)
        return {**terms, "grad_norm": norm}

    def averaged(self):
        return contextlib.nullcontext()

    def evaluate(self, batch):
        return self.predict(batch), self.losses(batch)[3]

    def predict(self, batch):
        logits = np.repeat(self.forward(batch)[2][:, None], QUERIES, axis=1).astype(np.float32)  # [B, Q, C + 1]
        logits[..., -1] = -9
        boxes = np.tile(np.float32([0.5, 0.5, 0.5, 0.5]), (len(batch), QUERIES, 1))
        return Outputs(logits, boxes)

    def attend(self, batch):
        raise NotImplementedError("it has no attention")

    def to_float64(self):
        return self

    def weights(self):
        return {n: v.copy() for n, v in self.model.items()}

    def state(self):
        return State(self.weights(),
                     {n: (m.copy(), v.copy()) for n, (m, v) in self.moments.items()} if self.steps else {}, self.steps)

    def load(self, state):
        check_state(state, {n: v.shape for n, v in self.model.items()}, set(self.trained))
        self.model = {n: np.array(v) for n, v in state.model.items()}
        if state.optimizer:
            self.moments = {n: (np.array(m), np.array(v)) for n, (m, v) in state.optimizer.items()}
            self.steps = state.steps


class SignalledTwin(NumpyTwin):
    """Sends this process a signal in the middle of a step."""

    signal, at = 0, -1

    def train_step(self, *arguments):
        if self.steps == self.at:
            os.kill(os.getpid(), self.signal)
        return super().train_step(*arguments)


def install(replace) -> None:
    """Put this twin in place of the real ones, and draw no curves, which takes longer than all else; `replace(object,
    name, value)` is setattr or pytest's."""
    for module in (build, job):
        replace(module, "load_twin", lambda framework: SignalledTwin)
    replace(Reporting, "draw_curves", lambda self: None)


def main() -> int:
    from detr_jittor.__main__ import main as command_line

    if "SIGNAL" in os.environ:
        SignalledTwin.signal, SignalledTwin.at = (int(x) for x in os.environ["SIGNAL"].split("@"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    install(setattr)
    if "DRAW_CURVES" in os.environ:
        Reporting.draw_curves = DRAW_CURVES
    return command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
