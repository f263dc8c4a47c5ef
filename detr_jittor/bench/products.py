"""The command `train` itself, as its users start it, on pictures that it reads: an epoch, an evaluation, a demo."""

import subprocess
import time
from pathlib import Path

from detr_jittor.align.worker import WorkerError
from detr_jittor.bench.group import Clock
from detr_jittor.bench.numbers import Row
from detr_jittor.bench.plan import DEMO_RATIO
from detr_jittor.bench.rivals import RIVALS
from detr_jittor.bench.session import Session
from detr_jittor.config.options import FRAMEWORKS, Config
from detr_jittor.data.demo import write_demo_set
from detr_jittor.engine.launch import start_training
from detr_jittor.report.log import read_log

LONGEST = 900  # seconds for one run


def train(config: Config, threads: int, clock: Clock) -> tuple[float, list[dict]]:
    """(seconds of the whole process, its log). Errors: WorkerError."""
    began = time.perf_counter()
    with start_training(config, threads, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate(timeout=max(1.0, min(LONGEST, clock.left())))
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise WorkerError(f"no end within {error.timeout:.0f} s") from None
    if process.returncode:
        lines = said.strip().splitlines() or [""]
        raise WorkerError(f"status {process.returncode}: {lines[-1]}")
    return time.perf_counter() - began, read_log(Path(config.run.output_dir) / "log.txt")


def in_turn(session: Session, name: str, config: Config, rounds: int) -> tuple[list[tuple], str]:
    """([(Jittor's, PyTorch's) answer of `train`], what went wrong)"""
    found = []
    for number in range(rounds):
        answers = []
        for framework in FRAMEWORKS:
            folder = session.scratch / f"{name} {framework} {number}".replace(" ", "-")
            try:
                answers.append(train(config.replace(framework=framework, output_dir=str(folder)), session.threads,
                                     session.clock))
            except WorkerError as error:
                session.tell(f"    {framework}: not measured: {error}")
                return found, f"{framework}: {error}"
        found.append(tuple(answers))
    return found, ""


def real_pictures(session: Session, weights: str) -> list[Row]:
    """Two epochs on pictures that are read, the first one to warm up, and an evaluation.

    Args:
        weights: the checkpoint that they start from.
    """
    count = session.plan.run_pictures
    session.tell(f"An epoch of {count} pictures with the loader, and an evaluation")
    config = session.config.replace(batch_size=2, epochs=2, lr_drop=2, eval_every=2, resume=weights)
    answers, problem = in_turn(session, "real", config, session.plan.run_rounds)
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
    return rows


def demo_run(session: Session) -> list[Row]:
    """Two epochs of the demo and an evaluation; the rest of its epochs and evaluations would be like the last ones."""
    session.tell("The demo's training, two epochs of it")
    data, demo = session.scratch / "demo", session.demo
    write_demo_set(data, size=demo.data.min_size)
    config = demo.replace(coco_path=str(data), epochs=2, lr_drop=2, eval_every=2, num_classes=None,
                          device=session.config.run.device)
    answers, problem = in_turn(session, "demo run", config, 1)
    epochs, evaluations = demo.optim.epochs, -(-demo.optim.epochs // demo.run.eval_every)
    whole = [tuple(seconds + (epochs - 2) * log[-1]["train_seconds"] + (evaluations - 1) * log[-1]["test_seconds"]
                   for seconds, log in pair) for pair in answers]
    note = f"calculated: {epochs} epochs like the second, {evaluations} evaluations like the first"
    rows = [Row("whole run of the demo preset (ResNet-18)", RIVALS["eager"].title, whole, must={"ratio": DEMO_RATIO},
                note=problem or note)]
    return rows
