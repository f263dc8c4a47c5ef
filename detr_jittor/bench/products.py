"""The command `train` itself, as its users start it, on pictures that it reads: an epoch, an evaluation, a demo."""

import os
import subprocess
import sys
import time
from pathlib import Path

from detr_jittor.align.worker import WorkerError
from detr_jittor.bench.group import Clock
from detr_jittor.bench.numbers import Row
from detr_jittor.bench.plan import DEMO_RATIO
from detr_jittor.bench.rivals import RIVALS
from detr_jittor.config.options import FRAMEWORKS, Config
from detr_jittor.data.demo import write_demo_set
from detr_jittor.report.log import make_folder, read_log, write_whole

LONGEST = 900  # seconds for one run


def train(config: Config, threads: int, clock: Clock) -> tuple[float, list[dict]]:
    """(seconds of the whole process, its log). Errors: WorkerError."""
    folder = Path(config.run.output_dir)
    make_folder(folder.parent)
    file = folder.with_suffix(".json")
    write_whole(file, config.to_json())
    began = time.perf_counter()
    try:
        done = subprocess.run([sys.executable, "-m", "detr_jittor", "train", "--config", str(file)],
                              env=os.environ | {"OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True,
                              timeout=max(1.0, min(LONGEST, clock.left())))
    except subprocess.TimeoutExpired as error:
        raise WorkerError(f"no end within {error.timeout:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        raise WorkerError(f"status {done.returncode}: {lines[-1]}")
    return time.perf_counter() - began, read_log(folder / "log.txt")


def in_turn(bench, name: str, config: Config, rounds: int) -> tuple[list[tuple], str]:
    """([(Jittor's, PyTorch's) answer of `train`], what went wrong)"""
    found = []
    for number in range(rounds):
        answers = []
        for framework in FRAMEWORKS:
            folder = bench.scratch / f"{name} {framework} {number}".replace(" ", "-")
            try:
                answers.append(train(config.replace(framework=framework, output_dir=str(folder)), bench.threads,
                                     bench.clock))
            except WorkerError as error:
                bench.tell(f"    {framework}: not measured: {error}")
                return found, f"{framework}: {error}"
        found.append(tuple(answers))
    return found, ""


def real_pictures(bench) -> None:
    """Two epochs on pictures that are read, the first one to warm up, and an evaluation."""
    count = bench.plan.run_pictures
    bench.tell(f"An epoch of {count} pictures with the loader, and an evaluation")
    config = bench.config.replace(batch_size=2, epochs=2, lr_drop=2, eval_every=2, resume=bench.weights())
    answers, problem = in_turn(bench, "real", config, bench.plan.run_rounds)
    last = [tuple(log[-1] for _, log in pair) for pair in answers]
    rows = []
    for name, key, pictures in (("epoch of real pictures, loader included", "train_seconds", count),
                                ("evaluation", "test_seconds", max(count // 2, 1))):
        pairs = [tuple(record[key] / pictures for record in pair) for pair in last]
        row = Row(f"{name}, a picture", RIVALS["eager"].title, pairs, note=problem)
        if pairs:
            row.note = f"{1 / row.jittor:.2f} and {1 / row.pytorch:.2f} images/s"
        if pairs and key == "train_seconds":
            waits = [max(pair[i]["train_data_time"] for pair in last) for i in (0, 1)]
            row.note += f"; waited for data {1000 * waits[0]:.0f} and {1000 * waits[1]:.0f} ms a step"
        rows.append(row)
    bench.say(rows)


def demo_run(bench) -> None:
    """Two epochs of the demo and an evaluation; the rest of its epochs and evaluations would be like the last ones."""
    bench.tell("The demo's training, two epochs of it")
    data, demo = bench.scratch / "demo", bench.demo
    write_demo_set(data, size=demo.data.min_size)
    config = demo.replace(coco_path=str(data), epochs=2, lr_drop=2, eval_every=2, num_classes=None,
                          device=bench.config.run.device)
    answers, problem = in_turn(bench, "demo run", config, 1)
    epochs, evaluations = demo.optim.epochs, -(-demo.optim.epochs // demo.run.eval_every)
    whole = [tuple(seconds + (epochs - 2) * log[-1]["train_seconds"] + (evaluations - 1) * log[-1]["test_seconds"]
                   for seconds, log in pair) for pair in answers]
    note = f"calculated: {epochs} epochs like the second, {evaluations} evaluations like the first"
    rows = [Row("whole run of the demo preset (ResNet-18)", RIVALS["eager"].title, whole, must={"ratio": DEMO_RATIO},
                note=problem or note)]
    bench.say(rows)
