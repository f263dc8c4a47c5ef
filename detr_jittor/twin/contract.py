"""The waist: what the engine asks of a framework.

Everything that crosses is NumPy: both twins receive the same batches, seeds and assignments,
so that a difference between them can only come from `jt/` or `pt/`.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from detr_jittor.config.options import Config, RunConfig
from detr_jittor.twin.denoising import Noisy
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.types import Assignment, Attention, Batch, Outputs, State

Forward = tuple[Any, ...]


class Twin(Protocol):
    """What the engine, the predictor, the alignment and the benchmark ask of either twin."""

    name: str  # "jittor" or "pytorch"
    checkpoint_suffix: str  # of the checkpoints of its runs: ".pkl" or ".pth"
    config: Config
    model: Any  # the framework's own module
    n_parameters: int  # trainable parameters, as the reference code counts them
    device: str  # what it runs on, in words
    kernels: str  # which kernels serve, in words
    trained: Collection[str]  # the names of the weights that the optimizer moves
    updates: int | None  # steps that the optimizer has taken; None while one is half done, so that `state` is no state

    def __init__(self, config: Config, num_classes: int, processes: Processes = ALONE):
        """
        Args:
            processes: those that train together, as `join` gives them.
        """

    @staticmethod
    def join(run: RunConfig) -> Processes:
        """The processes that were started with this one. Errors: DetrError if that is not what the settings say."""

    def train_step(self, batch: Batch, seed: int, lr_factor: float) -> dict[str, float]:
        """One optimizer step.

        Args:
            seed: the seed of this step (`seeding.step_seed`); dropout masks are made from it.
            lr_factor: both groups' learning rates are multiplied by it (`schedule.lr_factor`).

        Returns: `loss` (the weighted sum), every unscaled loss term by the reference's key
            (`loss_ce`, `loss_bbox_0`, …, `class_error`, `cardinality_error`) and `grad_norm` before clipping.
            If `loss` or `grad_norm` is not finite, nothing was updated. With several processes, which all must
            take part with a batch of their own, all of it is the mean over them.
        """

    def averaged(self) -> AbstractContextManager:
        """For a while the moving averages in place of the weights, where there are any."""

    def evaluate(self, batch: Batch) -> tuple[Outputs, dict[str, float]]:
        """The outputs of the last decoder layer and the losses, in evaluation mode (no dropout, no update).

        Each process for itself.
        """

    def predict(self, batch: Batch) -> Outputs:
        """The outputs of the last decoder layer, in evaluation mode; targets are not looked at."""

    def attend(self, batch: Batch) -> tuple[Outputs, Attention]:
        """What `predict` gives, and where the model looked."""

    def weights(self) -> dict[str, np.ndarray]:
        """A NumPy copy of all weights."""

    def state(self) -> State:
        """A NumPy copy of all weights and the optimizer's state."""

    def load(self, state: State) -> None:
        """Take over a state, whole or not at all.

        Errors: DetrError, listing together every missing, surplus and misshapen key. An empty `state.optimizer`
            leaves the optimizer as it is (weights only).
        """

    def to_float64(self) -> "Twin":
        """Compute in float64 from here on: the truth that both twins are measured against. Returns: itself.

        Errors: DetrError if it cannot.
        """


class StepParts(Protocol):
    """What `train_step` is made of. The alignment looks at what comes out of each, and the benchmark times each.

    `Forward` stands for what the model says, in the framework's own arrays: logits [L, B, Q, C + 1] and boxes
    [L, B, Q, 4] of every decoder layer, and what masks are made of or the proposals of `two_stage`, if any.
    """

    def prepare(self, seed: int | None) -> None:
        """Training mode for the step with this seed; None: evaluation mode."""

    def zero_grad(self) -> None:
        """Drop the gradients that were added so far."""

    def seed_dropout(self, key: int) -> None:
        """The key from which the next dropout masks are made."""

    def copies(self, batch: Batch) -> tuple[Noisy, ...]:
        """The noisy copies of a batch's objects that stand beside the queries in the next step, if there are some."""

    def forward(self, batch: Batch, *noisy: Noisy) -> Forward:
        """What the model says of a batch, and of the noisy copies behind its queries."""

    def match(self, outputs: Forward, batch: Batch, noisy: Sequence[Noisy] = ()) -> list[list[Assignment]]:
        """The assignment of every decoder layer that has losses, and of every picture and group of queries.

        Args: noisy: the copies in the outputs.
        """

    def losses(self, outputs: Forward, batch: Batch, indices: list[list[Assignment]], rest: Sequence[int] = (),
               processes: Processes = ALONE, noisy: Sequence[Noisy] = ()) -> tuple[list[str], Any, Any]:
        """(names of the loss terms, their values in one vector, the weighted sum), with gradients.

        Args:
            rest, processes: as the criterion's; noisy: the copies in the outputs.
        """

    def backward(self, loss: Any) -> None:
        """Add the gradients of the loss of a step, or of a part of it."""

    def update(self, lr_factor: float) -> float:
        """One step of the optimizer, and of what follows the weights. Returns: the gradients' norm before clipping."""
