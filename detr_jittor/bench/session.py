"""What the measurements share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from detr_jittor.bench.group import LIMIT, Clock, Group
from detr_jittor.bench.numbers import Row
from detr_jittor.bench.plan import BenchPlan, Size
from detr_jittor.bench.rivals import JITTOR, JITTOR_BF16, RIVALS
from detr_jittor.bench.tasks import LIMIT_SIDE
from detr_jittor.config.options import Config
from detr_jittor.config.presets import DEMO

OBJECTS = 8  # in a picture, at most
GENERATED = DEMO.replace(num_classes=4)  # the shapes of the generated pictures
TWINS = [(JITTOR, "eager")]


@dataclass
class Session:
    """What all measurements share: settings, the plan, the time that is left, and what was found so far."""

    config: Config  # of the model, resolved
    plan: BenchPlan
    threads: int
    tell: Callable[[str], None]
    scratch: Path
    demo: Config = GENERATED
    rows: list[Row] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)  # seconds of the large product
    identities: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)  # of the logits from PyTorch eager's
    model: bytes | str = "no exported model"

    def __post_init__(self):
        self.clock = Clock(self.plan.seconds)

    def say(self, rows: list[Row]) -> None:
        self.rows += rows
        for row in rows:
            if row.pairs:
                fraction = row.fraction(row.jittor)
                share = f", {fraction:.2f} of the limit" if fraction else ""
                self.tell(f"    {row.name}: {row.ours} {row.jittor:.4g} {row.unit}, {row.rival} {row.pytorch:.4g} "
                          f"{row.unit}, ratio {row.ratio:.2f}{share}")
            else:
                self.tell(f"    {row.name}: {row.rival} not measured ({row.note})")

    def group(self, keys: list[str], config: Config | None = None) -> Group:
        """Start those, one by one, with the same weights."""
        group, config = Group(self.clock, self.threads, self.tell), config or self.config
        group.add_limit()
        for key in keys:
            group.add(key, config, config.model.num_classes)
            group.ask(key, "take_weights")
        self.identify(group)
        return group

    def identify(self, group: Group) -> None:
        for key in group.members:
            if RIVALS[key].is_twin and (identity := group.ask(key, "identity")):
                self.identities[RIVALS[key].title] = identity

    def couples(self, rivals: list[str]) -> list[tuple[str, str]]:
        """Whom each is compared with: float32 with all, bf16 with bf16."""
        bf16 = [key for key in rivals if "bf16" in key]
        return [(JITTOR, key) for key in rivals if key != "openvino bf16"] + [(JITTOR_BF16, key) for key in bf16]

    def limit(self, found: dict[str, list[float]]) -> float | None:
        """Operations a second of the large product, in the rounds of these."""
        if not found.get(LIMIT):
            return None
        self.limits += found[LIMIT]
        return 2 * LIMIT_SIDE**3 / median(found[LIMIT])


def titled(size: Size) -> str:
    return f"{size[0]}×{size[1]}"


def seconds(found: dict[str, list]) -> dict[str, list[float]]:
    """Without the losses that come with training steps."""
    return {key: [v if isinstance(v, float) else v[0] for v in values] for key, values in found.items()}
