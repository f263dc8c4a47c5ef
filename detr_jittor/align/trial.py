"""One alignment: the twins as witnesses, and the weights and the batch that the stages share."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from detr_jittor.align.group import Group
from detr_jittor.align.plant import Fault
from detr_jittor.align.witness import Role, Witness
from detr_jittor.config.options import Config
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split
from detr_jittor.errors import DetrError
from detr_jittor.twin import seeding
from detr_jittor.twin.synthetic import conditioned
from detr_jittor.types import Assignment, Batch, State

JITTOR, PYTORCH, FLOAT64 = "jittor", "pytorch", "float64"
ROLES = {
    JITTOR: Role(JITTOR, "jittor"),
    PYTORCH: Role(PYTORCH, "pytorch"),
    FLOAT64: Role(FLOAT64, "pytorch", double=True),
}
STRIDE = 32  # of the coarsest feature maps
TRIED = 50  # batches of a split, to find one with objects and padding


@dataclass(frozen=True)
class AlignPlan:
    """How much is compared. Sizes in pixels."""

    steps: int = 50  # of training, in lock-step and free-running
    step_min_size: int = 96  # short side of the pictures in these steps
    step_max_size: int = 160
    detection_images: int = 32
    keep_all: bool = False  # keep all that PyTorch and float64 answered, for a Jittor twin that is replaced


class Trial:
    def __init__(self, config: Config, state: State | None, plan: AlignPlan, command: str = ""):
        """
        Args:
            config: resolved (no "auto", num_classes known), with a dataset.
            state: the weights, with or without AdamW's moments; None: random ones.
        """
        self.config = config.replace(dropout_masks="shared", num_workers=0, precision="float32")
        self.plan, self.command = plan, command
        self.witnesses: dict[str, Witness | Group] = {}
        self.empty: set[str] = set()  # those that do not have the trial's weights yet
        self.kept: dict[tuple, object] = {}
        self.index = open_split(config.data, "val", config.model.masks)
        self.batch = first_fit(self.batches("val"), self.batches("train", train=True))
        self.state = state or State(conditioned(self.ask(PYTORCH, "structure")["shapes"], config.run.seed), {})

    @property
    def step_config(self) -> Config:
        """Small pictures of many sizes, for the training stage."""
        return self.config.replace(min_size=self.plan.step_min_size, max_size=self.plan.step_max_size,
                                   augmentation="full")

    @property
    def seed(self) -> int:
        """The seed of the dropout masks of a single step."""
        return seeding.step_seed(self.config.run.seed, 0)

    def start(self, name: str, fault: Fault | None = None, role: Role | None = None) -> None:
        """Start a twin. With a fault, the faulty one takes the place of the sound one and what that one said.

        Args:
            role: of a twin that is none of `ROLES`.
        """
        self.stop(name)
        self.kept = {key: answer for key, answer in self.kept.items() if key[0] != name}
        role = replace(role or ROLES[name], fault=fault)
        kind = Group if role.processes > 1 else Witness
        self.witnesses[name] = kind(role, self.config, self.config.model.num_classes)
        self.empty.add(name)

    def stop(self, name: str) -> None:
        if name in self.witnesses:
            self.witnesses.pop(name).close()

    def close(self) -> None:
        for name in list(self.witnesses):
            self.stop(name)

    def ask(self, name: str, method: str, *args, **options):
        """Errors: WorkerError, DetrError."""
        if name not in self.witnesses:
            self.start(name)
        if name in self.empty and method not in ("identity", "structure", "load"):
            self.witnesses[name].ask("load", self.state)
            self.empty.remove(name)
        return self.witnesses[name].ask(method, *args, **options)

    def once(self, label: str, name: str, method: str, *args, **options):
        """As `ask`, but the answer is kept under this label, for whoever asks again: another stage, or the same one
        when the Jittor twin has been replaced."""
        key = (name, label)
        if key not in self.kept:
            self.kept[key] = self.ask(name, method, *args, **options)
        return self.kept[key]

    def forget(self, label: str) -> None:
        """Drop what was kept under a label; it can be large."""
        self.kept = {key: answer for key, answer in self.kept.items() if key[1] != label}

    def batches(self, split: str, config: Config | None = None, train: bool = False) -> Iterator[Batch]:
        """Batches of the first epoch of a split, without those that are empty."""
        config = config or self.config
        index = open_split(config.data, split, config.model.masks)
        size, seed, masks = config.optim.batch_size, config.run.seed, config.model.masks
        with closing(Loader(index, config.data, size, train, seed, masks)) as loader:
            yield from (batch for batch in loader.epoch(0) if len(batch))

    def assignment(self, seed: int | None = None) -> list[list[Assignment]]:
        """How float64 assigns queries to objects in the trial's batch: [layers with a loss][pictures]."""
        return self.once(f"matching {seed}", FLOAT64, "matching", self.batch, seed)[1]

    @property
    def sizes(self) -> list[int]:
        """Objects in each picture of the batch."""
        return [len(target.labels) for target in self.batch.targets]


def first_fit(*splits: Iterator[Batch]) -> Batch:
    """The first batch with objects in every picture and so much padding that feature maps have some; with less
    padding only if no split has one.

    Errors: DetrError if there is none with objects.
    """
    found = None
    for batch in (batch for batches in splits for batch in islice(batches, TRIED)):
        if all(len(target.labels) for target in batch.targets):
            if batch.mask[:, ::STRIDE, ::STRIDE].any():
                return batch
            found = found or batch
    if found is None:
        raise DetrError(f"no batch with objects in every picture among the first {TRIED}.",
                        "Give a smaller --batch_size or another dataset.")
    return found
