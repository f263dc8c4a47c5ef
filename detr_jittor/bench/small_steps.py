"""Steps of the demo's preset: by itself, beside a busy process, with too many threads."""

import contextlib
import subprocess
import sys
from statistics import median

from detr_jittor.bench import flops, plan
from detr_jittor.bench.group import Group
from detr_jittor.bench.rivals import JITTOR
from detr_jittor.bench.session import TWINS, Session, seconds
from detr_jittor.config.options import Config
from detr_jittor.config.presets import OF_BOX
from detr_jittor.twin.synthetic import random_batch


def demo_step(session: Session) -> None:
    """A step of the demo's preset: small pictures, so that what each operator costs by itself shows; the same on a
    busy machine, with more threads than processors, and with the box decoder."""
    side, pictures = session.demo.data.min_size, session.demo.optim.batch_size
    session.tell(f"Training step of the demo preset, batch {pictures}, {side}×{side}")
    name = "training step, demo preset (ResNet-18)"
    demo = session.demo.replace(device=session.config.run.device, threads=session.threads)
    quiet, group = demo_steps(session, name, demo, session.plan.demo_rounds)
    with busy_process():
        group.in_turn("train", "demo", 1, 5)  # until it is noticed
        must = {"jittor": plan.BUSY * median(quiet)} if quiet else {}
        demo_row(session, group, f"{name}, beside a busy process", demo, session.plan.busy_rounds, must)
    group.close()
    many = demo.replace(threads=2 * session.threads)
    demo_steps(session, f"{name}, twice as many threads as processors", many, session.plan.busy_rounds)[1].close()
    box = demo.replace(**OF_BOX)
    demo_steps(session, f"{name}, box decoder", box, session.plan.busy_rounds)[1].close()


def demo_steps(session: Session, name: str, config: Config, rounds: int) -> tuple[list[float], Group]:
    """Jittor's seconds, and the processes"""
    group = session.group([JITTOR, "eager"], config)
    side, pictures = config.data.min_size, config.optim.batch_size
    group.put("demo", random_batch([(side, side)] * pictures, config.model.num_classes, 2, 4))
    group.in_turn("train", "demo", 1, 20)  # warm-up
    return demo_row(session, group, name, config, rounds, {}), group


def demo_row(session: Session, group: Group, name: str, config: Config, rounds: int,
             must: dict[str, float]) -> list[float]:
    """Jittor's seconds"""
    found = seconds(group.in_turn("train", "demo", rounds, 5))
    side, work = config.data.min_size, None
    if config.model.decoder == "detr":  # whose arithmetic is counted
        work = flops.training(config, config.model.num_classes, config.optim.batch_size, side, side)
    session.say(group.rows(name, TWINS, found, limit=session.limit(found), work=work, must=must))
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
