"""Whether all queries say the same: the way in which a DETR that does not learn usually shows it."""

import sys

import numpy as np

from detr_jittor.types import Outputs

SAME = 0.005  # of a picture's size: boxes that differ by less in all four numbers are the same


class Collapse:
    """How far the boxes of a picture's queries are apart, over an evaluation."""

    def __init__(self):
        self.pictures, self.farthest = 0, 0.0

    def add(self, outputs: Outputs) -> None:
        if outputs.boxes.shape[1] > 1 and len(outputs.boxes):
            self.pictures += len(outputs.boxes)
            self.farthest = max(self.farthest, float(np.ptp(outputs.boxes, axis=1).max()))  # over [B, Q, 4]

    @property
    def is_total(self) -> bool:
        return self.pictures > 0 and self.farthest < SAME

    def tell(self) -> None:
        """Warn on stderr where in every picture all queries give the same box."""
        if self.is_total:
            print(f"warning: in each of the {self.pictures} pictures all queries give the same box (they differ by "
                  f"less than {SAME:g} of its size). Early in training this is usual; if it stays so, the learning "
                  "rate is too high or rises too suddenly (--lr, --warmup_steps), or the steps are too few.",
                  file=sys.stderr)
