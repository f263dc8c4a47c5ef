"""Each run watches itself: what must hold in every training is looked at in the first step and then now and then.

A warning names what does not hold and where to look; the run goes on. All weights are copied for a look, so it comes
at most every hundred steps (tests/engine/watch_cost.py measures what it costs).
"""

import copy
import math
import sys

import numpy as np

from detr_jittor.config.options import Config
from detr_jittor.data.faults import listed
from detr_jittor.twin.contract import Twin
from detr_jittor.twin.parameters import in_backbone, is_running
from detr_jittor.twin.processes import ALONE, Processes, checksum
from detr_jittor.types import Batch, State

EVERY = 100  # steps between two looks at least
SETTLED = 10  # steps in which every trained weight has moved; a head whose last layer starts at 0 needs two
EPOCHS, STEPS = 3, 100  # after which, and not before either, the loss of the first batch must have fallen
SLACK = 1e-3  # of a picture's side, by which a box may lie outside of it
ENOUGH = 4096  # numbers of each weight, by which the learning rate is looked at
LEARNING_RATE = 0.05  # by which share the largest first step of AdamW may differ from the learning rate


class Watch:
    def __init__(self, config: Config, twin: Twin, processes: Processes = ALONE):
        self.config, self.twin, self.processes = config, twin, processes
        self.looked_at = -EVERY  # the step of the last look
        self.settled = 0  # steps with a learning rate above 0, up to SETTLED
        self.before: dict[str, np.ndarray] | None = None  # the weights before the first step
        self.begins = True  # and does not go on from a checkpoint
        self.frozen: dict[str, int] = {}  # name → checksum
        self.batch: Batch | None = None  # the first one with objects, until its loss has been looked at
        self.loss_before, self.steps, self.epochs = math.nan, 0, 0
        self.last_ap, self.trained_loss = None, []

    def before_step(self, batch: Batch) -> None:
        self.check_targets(batch)
        if self.before is None:
            self.before = self.twin.weights()
            self.frozen = {name: checksum({name: value}) for name, value in self.before.items()
                           if self.is_frozen(name)}
            self.begins = self.twin.updates == 0
        # Of a run that goes on, the loss need not fall any more
        if self.begins and self.batch is None and not self.epochs and any(len(t.labels) for t in batch.targets):
            self.batch = copy.deepcopy(batch)  # the batch itself would hold a file of the loader's
            self.loss_before = self.twin.evaluate(batch)[1]["loss"]

    def is_frozen(self, name: str) -> bool:
        return name not in self.twin.trained and not is_running(name, self.config)

    def after_step(self, step: int, lr_factor: float) -> None:
        """After the first step whose learning rate is above 0, and once more some steps later"""
        self.steps += 1
        if lr_factor <= 0 or self.settled == SETTLED:
            return
        self.settled += 1
        if self.settled == 1:
            after = self.twin.state()
            self.check_learning_rate(after, lr_factor)
            self.look(step, after)
        if self.settled == SETTLED:
            self.check_moved(self.twin.weights())
            self.before = {}  # not needed any more, and as large as the model

    def after_epoch(self, step: int, train_loss: float, ap: float | None) -> None:
        """
        Args:
            train_loss: the mean of the epoch.
            ap: where it was evaluated.
        """
        if step - self.looked_at >= EVERY:
            self.look(step, self.twin.state())
        self.epochs += 1
        if self.batch is not None and self.epochs >= EPOCHS and self.steps >= STEPS:
            self.check_falling()
        self.trained_loss.append(train_loss)
        self.check_ap(ap)

    def look(self, step: int, state: State) -> None:
        self.looked_at = step
        changed = [name for name, known in self.frozen.items() if checksum({name: state.model[name]}) != known]
        if changed:
            self.warn(f"step {step}: weights that are frozen have changed: {listed(changed)}. What is evaluated is "
                      "not what was loaded: look at who writes to them")
        broken = [name for name, moments in state.optimizer.items()
                  if not all(is_finite(moment) for moment in moments)]
        if broken:
            self.warn(f"step {step}: AdamW's moments are not finite: {listed(broken)}. Go on from an earlier "
                      "checkpoint with a lower --lr")
        sums = self.processes.gather(checksum(state.model)) if self.processes.size > 1 else []
        if len(set(sums)) > 1:
            self.warn(f"step {step}: the processes have different weights: {sums}. They no longer train one model: "
                      "look at the machines' libraries, and begin again from a checkpoint")

    def check_moved(self, after: dict[str, np.ndarray]) -> None:
        still = [name for name in self.twin.trained if np.array_equal(self.before[name], after[name])]
        if still:
            self.warn(f"{SETTLED} steps did not move {len(still)} of {len(self.twin.trained)} trained weights: "
                      f"{listed(sorted(still))}. They have no part in the loss, or --lr is too small for float32")

    def check_learning_rate(self, after: State, lr_factor: float) -> None:
        """In its first step AdamW moves what has a gradient by the learning rate, besides the weight decay; a part
        of each weight shows it."""
        if not self.begins:
            return
        optim = self.config.optim
        for group, inside, lr in (("transformer", False, optim.lr), ("backbone", True, optim.lr_backbone)):
            wanted, found = lr * lr_factor, 0.0
            for name in (n for n in self.twin.trained if in_backbone(n) == inside):
                old, new = (weights[name].reshape(-1)[:ENOUGH] for weights in (self.before, after.model))
                moved = new - old.astype(np.float64) * (1 - wanted * optim.weight_decay)
                rounding = np.spacing(np.abs(old))
                found = max(found, float(np.max(np.abs(moved) - rounding, initial=0.0)))
            if found and abs(found - wanted) > LEARNING_RATE * wanted:
                self.warn(f"the first step moved weights of the {group} by up to {found:.3g}, but the schedule's "
                          f"learning rate is {wanted:.3g}")

    def check_falling(self) -> None:
        loss, self.batch = self.twin.evaluate(self.batch)[1]["loss"], None
        if not loss < self.loss_before:
            self.warn(f"the loss of the first batch in evaluation mode was {self.loss_before:.3f} before the first "
                      f"step and is {loss:.3f} after {self.epochs} epochs. Look at the learning rate (--lr, "
                      "--warmup_steps), and with detr-jittor dataset show at the boxes")

    def check_ap(self, ap: float | None) -> None:
        losses = self.trained_loss
        if ap == 0 and self.last_ap == 0 and len(losses) > 2 and losses[-1] < 0.7 * losses[0]:
            self.warn(f"AP is 0 in two evaluations although the training loss fell from {losses[0]:.3f} to "
                      f"{losses[-1]:.3f}: look whether both splits number their classes alike, whether the validation "
                      "pictures are of the same size and kind (--min_size), and with detr-jittor dataset show at their "
                      "boxes")
        self.last_ap = self.last_ap if ap is None else ap

    def check_targets(self, batch: Batch) -> None:
        """Every object lies in its picture, and has a size."""
        if are_inside(np.concatenate([target.boxes for target in batch.targets])):
            return
        for target in batch.targets:
            if not are_inside(target.boxes):
                self.warn(f"image {target.image_id}: after augmentation a box lies outside of its picture, or is empty")

    def warn(self, text: str) -> None:
        if self.processes.rank == 0:
            print(f"warning: {text}.", file=sys.stderr)


def are_inside(boxes: np.ndarray) -> bool:
    """Whether boxes [T, 4] lie in their pictures, and have a size."""
    centres, sides = boxes[:, :2], boxes[:, 2:]
    return bool((np.abs(2 * centres - 1) + sides <= 1 + SLACK).all() and (sides > 0).all())


def is_finite(x: np.ndarray) -> bool:
    return bool(np.isfinite(x.sum()) or np.isfinite(x).all())  # the sum is quicker, and may only be too large
