"""The checkpoints that a run writes."""

import sys

from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.engine.place import Place
from detr_jittor.errors import DetrError
from detr_jittor.twin.contract import Twin
from detr_jittor.types import Classes


class Saving:
    """Writes checkpoints of one run into its folder; without a folder it writes nothing."""

    def __init__(self, folder: RunFolder | None, twin: Twin, place: Place, classes: Classes):
        self.folder, self.twin, self.place, self.classes = folder, twin, place, classes
        self.saved_step = place.step
        self.unsaved: DetrError | None = None  # why the newest state is not on the disk

    def save(self) -> None:
        """Write the checkpoint. If that fails, the run goes on and says so; at its end it is an error."""
        if self.folder is None:
            return
        checkpoint = self.place.checkpoint(self.twin.state(), self.classes)
        try:
            self.folder.save(checkpoint)
            self.unsaved, self.saved_step = None, self.place.step
        except DetrError as error:
            self.unsaved = error
            print(f"warning: {error}", file=sys.stderr)

    def save_what_is_new(self) -> None:
        """Write the checkpoint if steps were taken since the last one."""
        if self.place.step > self.saved_step:
            self.save()

    def name(self, best: bool) -> None:
        """Keep the best, and as the reference code does, those before a drop of the learning rate and every 100th."""
        if self.folder is None or self.unsaved:
            return
        place, number = self.place, self.place.epoch + 1
        numbered = place.batches == 0 and (number % place.config.optim.lr_drop == 0 or number % 100 == 0)
        for name in ["best"] * best + [f"checkpoint{place.epoch:04}"] * numbered:
            self.folder.also_as(name)
