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
        self.begun = (place.step, twin.updates)  # what both were when the newest step began

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

    def before_step(self) -> None:
        self.begun = (self.place.step, self.twin.updates)

    def save_what_is_new(self) -> None:
        """After a fault, also one of the program itself: write the checkpoint, if steps were taken since the last one.

        A fault can come between the weights' step and the count of it, which is made up for; or amid the weights' step,
        of which half is nothing to go on from.
        """
        (step, updates), now = self.begun, self.twin.updates
        if now is None:
            print(f"warning: step {step} was half done and is not saved; the newest checkpoint is that of step "
                  f"{self.saved_step}.", file=sys.stderr)
            return
        if self.place.step == step and updates is not None and now > updates:
            self.place.after_step(0.0, 0.0)
        if self.place.step > self.saved_step:
            try:
                self.save()
            except Exception as error:  # the first fault is the one to be told
                print(f"warning: the checkpoint could not be written ({type(error).__name__}: {error}).",
                      file=sys.stderr)

    def name(self, best: bool) -> None:
        """Keep the best, and as the reference code does, those before a drop of the learning rate and every 100th."""
        if self.folder is None or self.unsaved:
            return
        place, number = self.place, self.place.epoch + 1
        numbered = place.batches == 0 and (number % place.config.optim.lr_drop == 0 or number % 100 == 0)
        for name in ["best"] * best + [f"checkpoint{place.epoch:04}"] * numbered:
            self.folder.also_as(name)
