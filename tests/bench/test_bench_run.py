"""The command itself, on a small model: what it measures, and what it says of those that it cannot."""

import json
from dataclasses import replace

import pytest
from small import SMALL

from detr_jittor.align.worker import Worker, WorkerError
from detr_jittor.bench import cold, kernels
from detr_jittor.bench.group import Clock, Group
from detr_jittor.bench.plan import FULL
from detr_jittor.bench.rivals import JITTOR, RIVALS
from detr_jittor.cli.bench import bench
from detr_jittor.config.presets import DEMO
from detr_jittor.twin import processor

pytestmark = pytest.mark.slow

TINY = replace(FULL, sizes=((64, 96),), settings=("bf16",), engines=("onnxruntime",), inference_batches=(1,),
               training_batches=(2,), rounds=2, inference_rounds=4, varying=2, demo_rounds=1, busy_rounds=1, starts=1,
               without_operators=False, kernel_rounds=1, run_rounds=0, demo_runs=False)
STAGES = [f"stage: {name}" for name in ("data, in a process that reads pictures", "forward", "matching", "losses",
                                        "backward", "optimizer")]


@pytest.fixture(scope="module")
def rows(tmp_path_factory, all_processors) -> dict[tuple[str, str, str], dict]:
    """{(what, ours, rival): row} of a run with few and small measurements."""
    folder = tmp_path_factory.mktemp("bench")
    assert bench(SMALL.replace(min_size=64, max_size=96), TINY, folder) == 0
    written = json.loads((folder / "bench.json").read_text())
    assert (folder / "bench.md").read_text() and "<table" in (folder / "bench.html").read_text()
    assert written["limit_gflops"]["median"] > 1
    assert 0 < written["differences"]["Jittor"] < 1e-3 and 0 < written["differences"]["ONNX Runtime"] < 1e-3
    assert written["differences"][RIVALS["bf16"].title] > 1e-3  # it multiplies bfloat16 indeed
    return {(row["name"], row["ours"], row["rival"]): row for row in written["rows"]}


@pytest.mark.parametrize("name, rival, count", [
    ("training step, batch 2, 64×96", "PyTorch eager", 2),
    ("training step, batch 2, 64×96", RIVALS["bf16"].title, 2),
    ("training step, batch 2, sizes not seen before", "PyTorch eager", 2),
    ("peak memory, training, batch 2, 64×96", "PyTorch eager", 1),
    ("process start to first training step", "PyTorch eager", 1),
    ("inference, batch 1, 64×96", "PyTorch eager", 4),
    ("inference, batch 1, 64×96", RIVALS["bf16"].title, 4),
    ("inference, batch 1, 64×96", "ONNX Runtime", 4),
    ("training step, demo preset (ResNet-18)", "PyTorch eager", 1),
    ("training step, demo preset (ResNet-18), beside a busy process", "PyTorch eager", 1),
    ("training step, demo preset (ResNet-18), twice as many threads as processors", "PyTorch eager", 1),
    ("training step, demo preset (ResNet-18), box decoder", "PyTorch eager", 1),
    *((stage, "PyTorch eager", count) for stage, count in zip(STAGES, [4, 2, 2, 2, 2, 2])),
    *((f"kernel: {case.name}", "PyTorch eager", 1) for case in kernels.CASES)])
def test_a_row(rows, name, rival, count):
    row = rows[name, "Jittor", rival]
    assert len(row["pairs"]) == count, row["note"]
    assert all(value > 0 for pair in row["pairs"] for value in pair)
    timed = (name.startswith(("training", "inference")) and "box" not in name) or any(
        case.operations for case in kernels.CASES if name == f"kernel: {case.name}")
    assert (row["limit_fraction"] is not None) == timed
    assert row["unit"] == ("MB" if "memory" in name else "s")
    assert bool(row["note"]) == (rival == "ONNX Runtime" and processor.limit() is not None)


def test_kernels_of_both_twins_compute_the_same():
    """What is timed is the same work: values and gradients agree."""
    from detr_jittor.jt import kernels as jittor

    assert jittor.Kernels().words == "oneDNN"
    ours, theirs = (kernels.calls(framework, dropout=0.0) for framework in ("jittor", "pytorch"))
    for case in kernels.CASES:
        pairs = list(zip(ours[case.name](), theirs[case.name](), strict=True))
        shapes = [case.output, *case.inputs]
        assert len(pairs) >= len(shapes)
        for i, (mine, reference) in enumerate(pairs):
            blocked = case.in_backbone and i < len(shapes)
            mine, reference = (jittor.leave(mine) if blocked else mine).numpy(), reference.detach().numpy()
            assert mine.shape == reference.shape == (shapes[i] if i < len(shapes) else reference.shape)
            assert abs(mine - reference).max() < 1e-4 * abs(reference).max(), (case.name, i)


class Sleeper:
    """A task that takes long, or fails."""

    def sleep(self, seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    def fail(self):
        raise ValueError("broken\nin two lines")

    def home(self) -> tuple[str | None, str | None]:
        import os

        return os.environ.get("HOME"), os.environ.get("JITTOR_HOME")


def test_a_process_that_takes_too_long_is_ended():
    worker = Worker("a sleeper", Sleeper)
    assert worker.ask("sleep", 0.0, limit=60) == 0.0
    with pytest.raises(WorkerError, match="no answer within 1 s"):
        worker.ask("sleep", 60.0, limit=1)
    worker.close()
    assert not worker.process.is_alive()


def test_one_that_fails_drops_out_and_says_why():
    told = []
    group = Group(Clock(None), 1, told.append)
    group.start("eager", Sleeper)
    group.start(JITTOR, Sleeper)
    assert group.ask("eager", "fail") is None
    assert group.ask(JITTOR, "sleep", 0.0) == 0.0
    row, = group.rows("a step", [(JITTOR, "eager")], {JITTOR: [1.0]})
    group.close()
    assert row.ratio is None and row.note == "PyTorch eager: ValueError: broken"
    assert told == ["    PyTorch eager: not measured: ValueError: broken"]


def test_no_measurement_when_the_time_is_up():
    group = Group(Clock(0), 1, lambda line: None)
    group.start("eager", Sleeper)
    assert group.ask("eager", "sleep", 0.0) is None
    assert group.failures == {"eager": "the time is up"} and not group.workers


def test_a_home_without_operators(tmp_path, monkeypatch):
    place = tmp_path / "home" / ".cache" / "jittor" / "jt" / "default"
    for name in ("jit/op.so", "custom_ops/gen_ops_mkl.so", "custom_ops/gen_ops_detr_kernel.so", "obj_files/var.cc.o",
                 "obj_files/detr_linear.cc.o", "jittor_core.so"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("content")
    (place / "jittor_core.so.key").write_text(f'g++ -o "{place}/jittor_core.so"')
    home = tmp_path / "scratch"
    cold.without_operators(tmp_path / "home", home)
    copy = home / ".cache" / "jittor" / "jt" / "default"
    found = {str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file()}
    assert found == {"custom_ops/gen_ops_mkl.so", "obj_files/var.cc.o", "jittor_core.so", "jittor_core.so.key"}
    assert (copy / "jittor_core.so.key").read_text() == f'g++ -o "{copy}/jittor_core.so"'
    monkeypatch.setenv("JITTOR_HOME", "/elsewhere")
    worker = Worker("a sleeper", Sleeper, environment=cold.environment(home))
    assert worker.ask("home", limit=60) == (str(home), None)
    worker.close()


def test_the_demo_is_the_preset():
    from detr_jittor.bench.session import GENERATED

    assert DEMO.replace(num_classes=4) == GENERATED
