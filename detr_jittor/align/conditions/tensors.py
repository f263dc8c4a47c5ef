"""All that a twin computes for the trial's batch, and how two twins' are held against float64."""

from dataclasses import dataclass

import numpy as np

from detr_jittor.align.measure import Item, compare
from detr_jittor.align.stages.gradients import scales, truth
from detr_jittor.align.trial import FLOAT64, Trial
from detr_jittor.twin.recorder import Gradients


@dataclass(frozen=True)
class Tensors:
    outputs: dict[str, np.ndarray]  # of every module, in evaluation mode
    gradients: Gradients  # of every parameter, in training mode, with the trial's assignment

    @property
    def parts(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return self.outputs, self.gradients.of


def tensors(trial: Trial, name: str) -> Tensors:
    return Tensors(trial.ask(name, "modules", trial.batch), trial.ask(name, "gradients", *given(trial)))


def tensors_once(trial: Trial, name: str) -> Tensors:
    """The same, taken from the stages that have asked for them already."""
    return Tensors(trial.once("modules", name, "modules", trial.batch),
                   trial.once("gradients", name, "gradients", *given(trial)))


def given(trial: Trial) -> tuple:
    """With what gradients are asked for."""
    return trial.batch, trial.assignment(trial.seed), trial.seed


def against_float64(trial: Trial, jittor: Tensors, pytorch: Tensors, prefix: str = "",
                    ceiling: float | None = None) -> list[Item]:
    """As the stages "forward" and "gradients" compare them. Args: ceiling: as `compare` takes it."""
    true = trial.once("modules", FLOAT64, "modules", trial.batch)
    items = [compare(f"{prefix}{path}", jittor.outputs[path], pytorch.outputs[path], true[path], ceiling=ceiling)
             if path in jittor.outputs and path in pytorch.outputs
             else Item(f"{prefix}{path}", False, note="one of the twins has no such output") for path in true]
    # Each on its own side of every kink, where the gradient jumps
    of_jittor, of_pytorch = (truth(trial, given(trial), found.gradients.kinks.sides).of for found in (jittor, pytorch))
    return items + [compare(f"{prefix}gradient of {path}", jittor.gradients.of[path], pytorch.gradients.of[path],
                            of_jittor[path], scale, pytorch_truth=of_pytorch[path], ceiling=ceiling)
                    for path, scale in scales(of_jittor).items()]
