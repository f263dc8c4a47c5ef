"""The measurements, one after another. Each makes its rows as soon as it is done."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from detr_jittor.align.weights import random_batch
from detr_jittor.bench import cold, flops, kernels, plan, products
from detr_jittor.bench.group import LIMIT, Clock, Group
from detr_jittor.bench.numbers import Row, pairs
from detr_jittor.bench.plan import Plan, Size
from detr_jittor.bench.rivals import JITTOR, JITTOR_BF16, RIVALS
from detr_jittor.bench.stages import STAGES
from detr_jittor.bench.tasks import LIMIT_SIDE, CoreTask
from detr_jittor.config.options import Config
from detr_jittor.config.presets import DEMO
from detr_jittor.jt.setup import machine

OBJECTS = 8  # in a picture, at most
GENERATED = DEMO.replace(num_classes=4)  # the shapes of the generated pictures
TWINS = [(JITTOR, "eager")]


def titled(size: Size) -> str:
    return f"{size[0]}×{size[1]}"


@dataclass
class Bench:
    config: Config  # of the model, resolved
    plan: Plan
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

    def run(self) -> list[Row]:
        """All rows, those that were not measured with the reason."""
        self.training(self.plan.training_batches[0], ["eager"], more=True)
        self.starts()
        self.demo_step()
        self.inference()
        for setting in self.plan.settings:  # few at a time: each takes some gigabytes
            self.training(self.plan.training_batches[0], [setting])
        for batch in self.plan.training_batches[1:]:
            self.training(batch, ["eager"])
        if self.plan.run_rounds:
            products.real_pictures(self)
        if self.plan.demo_runs:
            products.demo_run(self)
        return self.rows

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

    def training(self, pictures: int, rivals: list[str], more: bool = False) -> None:
        """Training steps. Args: more: also on sizes not seen before, memory, and the parts of a step."""
        size, ours = self.plan.sizes[0], [JITTOR, JITTOR_BF16] if "bf16" in rivals else [JITTOR]
        self.tell(f"Training, batch {pictures}, {titled(size)}: {', '.join(RIVALS[k].title for k in [*ours, *rivals])}")
        group = self.group([*ours, *rivals])
        batch = random_batch([size] * pictures, self.config.model.num_classes, 0, OBJECTS)
        group.put("fixed", batch)
        group.in_turn("train", "fixed", 2)  # warm-up
        found = seconds(group.in_turn("train", "fixed", self.plan.rounds))
        work = flops.training(self.config, self.config.model.num_classes, pictures, *size)
        limit, name = self.limit(found), f"training step, batch {pictures}, {titled(size)}"
        rows = group.rows(name, self.couples(rivals), found, work=work, limit=limit)
        for row, (mine, rival) in zip(rows, self.couples(rivals)):
            if pictures == self.plan.training_batches[0]:
                wanted = (plan.TRAINING_BF16 if mine == JITTOR_BF16 else plan.TRAINING).get(rival)
                row.must = {"ratio": wanted} if wanted else {}
                row.must |= {"limit_fraction": plan.FRACTION} if rival == "eager" else {}
        self.say(rows)
        self.memory(group, f"peak memory, training, batch {pictures}, {titled(size)}", rivals)
        if more:
            self.varying(group, pictures)
            self.memory(group, f"peak memory, training, batch {pictures}, varying sizes", rivals)
            if self.plan.stages:
                self.stages(group)
            if self.plan.kernel_rounds:
                self.kernels(group)
        self.identify(group)  # by now it is known which layers have no quick code
        group.close()

    def memory(self, group: Group, name: str, rivals: list[str]) -> None:
        found = {key: [memory] for key in group.members if (memory := group.ask(key, "peak_memory"))}
        rows = group.rows(name, self.couples(rivals), found, unit="MB")
        for row in rows:
            row.must = {"ratio": plan.MEMORY_RATIO} if row.rival == RIVALS["eager"].title else {}
        self.say(rows)

    def varying(self, group: Group, pictures: int) -> None:
        found: dict[str, list[float]] = {}
        work = []
        for number, sizes in enumerate(plan.VARYING[:self.plan.varying]):
            sizes = [self.shrunk(size) for size in (sizes * pictures)[:pictures]]
            batch = random_batch(sizes, self.config.model.num_classes, number, OBJECTS)
            group.put("new", batch)
            for key, values in seconds(group.in_turn("train", "new", 1)).items():
                found.setdefault(key, []).extend(values)
            shape = batch.images.shape[2:]
            work.append(flops.training(self.config, self.config.model.num_classes, pictures, *shape))
        self.say(group.rows(f"training step, batch {pictures}, sizes not seen before", TWINS, found,
                            work=median(work) if work else None, limit=self.limit(found),
                            must={"ratio": plan.VARYING_RATIO}))

    def shrunk(self, size: Size) -> Size:
        """A size of `plan.VARYING` in a plan whose pictures are smaller."""
        scale = self.plan.sizes[0][0] / 480
        return tuple(max(32, round(n * scale)) for n in size)

    def stages(self, group: Group) -> None:
        """The parts of a step. They add up to a little more than a step, which need not wait for each."""
        group.in_turn("stages", "fixed", 1)  # warm-up
        parts = {key: values for key, values in group.in_turn("stages", "fixed", self.plan.rounds).items()
                 if key != LIMIT}
        data = group.in_turn("data", "train", 2 * self.plan.rounds)
        self.say(group.rows("stage: data, in a process that reads pictures", TWINS, data))
        for stage in STAGES:
            values = {key: [v[stage] for v in answers] for key, answers in parts.items()}
            self.say(group.rows(f"stage: {stage}", TWINS, values))

    def kernels(self, group: Group) -> None:
        """Single kernels, which small models of other users are made of too."""
        for case in kernels.CASES:
            group.in_turn("kernel", case.name, 1, 1)  # warm-up
            found = group.in_turn("kernel", case.name, self.plan.kernel_rounds, self.plan.kernel_repeat)
            gradients = 2  # of the input and of the weight, or of both factors
            self.say(group.rows(f"kernel: {case.name}", TWINS, found, limit=self.limit(found),
                                work=case.operations and (1 + gradients) * case.operations))

    def inference(self) -> None:
        """Forward passes of all rivals: NumPy pictures in, NumPy logits and boxes out."""
        rivals = ["eager", *self.plan.settings, *self.plan.engines]
        self.tell(f"Inference: {', '.join(RIVALS[key].title for key in [JITTOR, *rivals])}")
        if self.plan.engines:
            self.export()
        group = self.group([JITTOR, JITTOR_BF16, "eager", *self.plan.settings])
        for key in self.plan.engines:
            group.add(key, self.config, self.config.model.num_classes, self.model)
        for pictures in self.plan.inference_batches:
            if pictures > 1 and "compile" in rivals:  # a minute of compiling for each shape
                rivals.remove("compile")
                group.leave("compile")
            for size in self.plan.sizes:
                self.passes(group, size, pictures, rivals)
        group.close()

    def passes(self, group: Group, size: Size, pictures: int, rivals: list[str]) -> None:
        classes, name = self.config.model.num_classes, f"inference, batch {pictures}, {titled(size)}"
        group.put(name, random_batch([size] * pictures, classes, 1, OBJECTS))
        group.in_turn("infer", name, 2)  # warm-up
        self.compare_logits(group, name)
        found = group.in_turn("infer", name, self.plan.inference_rounds if pictures == 1 else self.plan.rounds)
        rows = group.rows(name, self.couples(rivals), found, limit=self.limit(found),
                          work=flops.inference(self.config, classes, pictures, *size))
        for row, (mine, rival) in zip(rows, self.couples(rivals)):
            musts = plan.INFERENCE_BF16 if mine == JITTOR_BF16 else plan.INFERENCE
            if pictures == 1 and rival in musts.get(size, {}):
                row.must = {"ratio": musts[size][rival]}
        self.say(rows)

    def export(self) -> None:
        """Make the ONNX file, once, in a process of its own: it is not part of what anybody is timed with."""
        if isinstance(self.model, bytes):
            return
        group = self.group(["eager"])
        self.model = group.ask("eager", "export") or f"no exported model ({group.failures.get('eager')})"
        group.close()

    def compare_logits(self, group: Group, name: str) -> None:
        """That all compute the same is not taken for granted."""
        wanted = group.ask("eager", "logits", name)
        for key in group.members:
            found = group.ask(key, "logits", name)
            if found is not None and wanted is not None:
                title, difference = RIVALS[key].title, float(abs(found - wanted).max())
                self.differences[title] = max(self.differences.get(title, 0.0), difference)

    def weights(self) -> str:
        """A checkpoint with the weights that all are given."""
        file = self.scratch / "weights.safetensors"
        group = self.group(["eager"])
        group.ask("eager", "save", str(file))
        group.close()
        return str(file)

    def starts(self) -> None:
        """From the start of a process to the end of its first training step."""
        self.tell("Process start to first training step")
        found = self.first_steps(self.plan.starts, None)
        self.say([Row("process start to first training step", RIVALS["eager"].title, found,
                      must={"jittor": plan.START}, note="" if found else "it failed")])
        if self.plan.without_operators:
            self.start_without_operators()

    def start_without_operators(self) -> None:
        """As after an installation, which compiles Jittor's core but none of DETR's operators."""
        with tempfile.TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True) as folder:
            home, environment = Path(folder), cold.environment(Path(folder))
            cold.without_operators(machine.choose_home()[0], home)
            group = Group(self.clock, self.threads, self.tell)
            group.start("core", CoreTask, environment=environment)
            prepared = group.ask("core", "ready")  # a few files name their own folder and are compiled anew
            group.close()
            before = cold.core(home)
            found = self.first_steps(1, environment) if prepared else []
            rebuilt = cold.core(home) != before
        note = "" if found else f"not measured: {group.failures.get('core', 'a first step failed')}"
        self.say([Row("the same, operators not yet compiled", RIVALS["eager"].title, found,
                      must={"jittor": plan.START_WITHOUT_OPERATORS},
                      note="Jittor's core was compiled too: not what the row says" if rebuilt else note)])

    def first_steps(self, times: int, environment: dict[str, str | None] | None) -> list[tuple[float, float]]:
        batch = random_batch([self.plan.sizes[0]] * 2, self.config.model.num_classes, 0, OBJECTS)
        found: dict[str, list[float]] = {JITTOR: [], "eager": []}
        for _ in range(times):
            for key, values in found.items():
                group = Group(self.clock, self.threads, self.tell)
                began = time.perf_counter()
                group.add(key, self.config, self.config.model.num_classes, environment=environment)
                group.put("fixed", batch)
                if group.ask(key, "train", "fixed"):
                    values.append(time.perf_counter() - began)
                group.close()
        return pairs(found[JITTOR], found["eager"])

    def demo_step(self) -> None:
        """A step of the demo's preset: small pictures, so that what each operator costs by itself shows; the same on a
        busy machine, and with more threads than processors."""
        side, pictures = self.demo.data.min_size, self.demo.optim.batch_size
        self.tell(f"Training step of the demo preset, batch {pictures}, {side}×{side}")
        name = "training step, demo preset (ResNet-18)"
        quiet, group = self.demo_steps(name, self.threads, self.plan.demo_rounds)
        with busy_process():
            group.in_turn("train", "demo", 1, 5)  # until it is noticed
            must = {"jittor": plan.BUSY * median(quiet)} if quiet else {}
            self.demo_row(group, f"{name}, beside a busy process", self.plan.busy_rounds, must)
        group.close()
        name += ", twice as many threads as processors"
        self.demo_steps(name, 2 * self.threads, self.plan.busy_rounds)[1].close()

    def demo_steps(self, name: str, threads: int, rounds: int) -> tuple[list[float], Group]:
        """Jittor's seconds, and the processes"""
        config = self.demo.replace(device=self.config.run.device, threads=threads)
        group = self.group([JITTOR, "eager"], config)
        side, pictures = config.data.min_size, config.optim.batch_size
        group.put("demo", random_batch([(side, side)] * pictures, config.model.num_classes, 2, 4))
        group.in_turn("train", "demo", 1, 20)  # warm-up
        return self.demo_row(group, name, rounds, {}), group

    def demo_row(self, group: Group, name: str, rounds: int, must: dict[str, float]) -> list[float]:
        """Jittor's seconds"""
        found = seconds(group.in_turn("train", "demo", rounds, 5))
        side, pictures = self.demo.data.min_size, self.demo.optim.batch_size
        work = flops.training(self.demo, self.demo.model.num_classes, pictures, side, side)
        self.say(group.rows(name, TWINS, found, limit=self.limit(found), work=work, must=must))
        return found.get(JITTOR, [])


@contextlib.contextmanager
def busy_process():
    """Another process that computes without end, in a session of its own as of another user."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds(found: dict[str, list]) -> dict[str, list[float]]:
    """Without the losses that come with training steps."""
    return {key: [v if isinstance(v, float) else v[0] for v in values] for key, values in found.items()}
