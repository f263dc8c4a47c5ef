"""Where a run is: epochs, batches and steps done, what the epoch has logged so far, and how good it was."""

from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.engine.averages import Averages
from detr_jittor.errors import SharedError
from detr_jittor.evaluate.results import Results
from detr_jittor.types import Classes, State


class Place:
    """Attributes:
        epoch: the last one that is finished, −1 before the first.
        batches: those done of the epoch after it.
        averages: of the epoch after it.
        since_best: evaluations since the best AP.
        thresholds: {label: the score from which F1 was best at the last evaluation}.
    """

    def __init__(self, config: Config, epoch_length: int):
        self.config, self.epoch_length = config, epoch_length
        self.epoch, self.batches, self.step = config.run.start_epoch - 1, 0, 0
        self.averages = Averages()
        self.best_ap, self.since_best = -1.0, 0
        self.thresholds: dict[int, float] = {}

    def take_over(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint was, within an epoch if its batches are still the same ones."""
        self.epoch, self.step = checkpoint.epoch, checkpoint.step
        self.best_ap, self.since_best = checkpoint.best_ap, checkpoint.since_best
        self.thresholds = checkpoint.thresholds
        if not checkpoint.batches:
            return
        old, new = checkpoint.config, self.config
        if (old is None or pictures_a_step(old) != pictures_a_step(new) or old.run.seed != new.run.seed
                or checkpoint.epoch_length != self.epoch_length):
            print(f"The data, the batch size or the seed has changed: epoch {self.epoch + 1} starts anew.")
            return
        self.batches, self.averages = checkpoint.batches, Averages(checkpoint.sums)

    def checkpoint(self, state: State, classes: Classes) -> Checkpoint:
        return Checkpoint(
            state, epoch=self.epoch, step=self.step, config=self.config, classes=classes, best_ap=self.best_ap,
            batches=self.batches, epoch_length=self.epoch_length, since_best=self.since_best, sums=self.averages.sums,
            thresholds=self.thresholds)

    @property
    def is_at_the_end(self) -> bool:
        return self.epoch + 1 >= self.config.optim.epochs or self.is_at_the_last_step or self.is_stale

    @property
    def is_at_the_last_step(self) -> bool:
        return self.config.optim.max_steps is not None and self.step >= self.config.optim.max_steps

    @property
    def is_stale(self) -> bool:
        """Whether --early_stop ends the run."""
        return 0 < self.config.optim.early_stop <= self.since_best

    @property
    def evaluation_is_due(self) -> bool:
        done, last = self.epoch + 2, self.config.optim.epochs  # epochs, with the one that ends now
        return done % self.config.run.eval_every == 0 or done >= last or self.is_at_the_last_step

    @property
    def saving_is_due(self) -> bool:
        """Within an epoch."""
        every = self.config.run.save_every_steps
        return every > 0 and self.step % every == 0

    @property
    def share(self) -> float:
        """How much of the epoch is done, from 0 to 1."""
        return self.batches / self.epoch_length

    def after_step(self, data_time: float, step_time: float) -> None:
        """Args: seconds: those of waiting for the batch, and those of the step with them."""
        self.step, self.batches = self.step + 1, self.batches + 1
        self.averages.add({"data_time": data_time, "step_time": step_time})

    def check_learned(self) -> None:
        """Errors: SharedError if the epoch has come to its end without a single step."""
        if self.batches == self.epoch_length and "loss" not in self.averages.sums:
            raise SharedError(f"epoch {self.epoch + 1}: not one batch had pictures that could be read, so nothing was "
                              "learned.", "Look at what is said of them above.")

    def after_evaluation(self, results: Results) -> bool:
        """Returns: whether this is the best AP so far."""
        best = results.ap > self.best_ap
        if results.mistakes:
            self.thresholds = results.mistakes.thresholds
        self.best_ap = results.ap if best else self.best_ap
        self.since_best = 0 if best else self.since_best + 1
        return best

    def after_epoch(self) -> None:
        """The next epoch begins, unless the last step of the run came before this one's end."""
        if self.batches == self.epoch_length:
            self.epoch, self.batches, self.averages = self.epoch + 1, 0, Averages()


def pictures_a_step(config: Config) -> int:
    """Of all processes together."""
    return config.optim.batch_size * config.optim.accumulate * config.run.world_size
