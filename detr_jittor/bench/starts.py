"""From the start of a process to the end of its first training step."""

import tempfile
import time
from pathlib import Path

from detr_jittor.bench import cold, plan
from detr_jittor.bench.group import Group
from detr_jittor.bench.numbers import Row, pairs
from detr_jittor.bench.rivals import JITTOR, RIVALS
from detr_jittor.bench.session import OBJECTS, Session
from detr_jittor.bench.tasks import CoreTask
from detr_jittor.jt.setup import machine
from detr_jittor.twin.synthetic import random_batch


def starts(session: Session) -> None:
    """From the start of a process to the end of its first training step."""
    session.tell("Process start to first training step")
    found = first_steps(session, session.plan.starts, None)
    session.say([Row("process start to first training step", RIVALS["eager"].title, found,
                  must={"jittor": plan.START}, note="" if found else "it failed")])
    if session.plan.without_operators:
        start_without_operators(session)


def start_without_operators(session: Session) -> None:
    """As after an installation, which compiles Jittor's core but none of DETR's operators."""
    with tempfile.TemporaryDirectory(dir=session.scratch, ignore_cleanup_errors=True) as folder:
        home, environment = Path(folder), cold.environment(Path(folder))
        cold.without_operators(machine.choose_home()[0], home)
        group = Group(session.clock, session.threads, session.tell)
        group.start("core", CoreTask, environment=environment)
        prepared = group.ask("core", "ready")  # a few files name their own folder and are compiled anew
        group.close()
        before = cold.core(home)
        found = first_steps(session, 1, environment) if prepared else []
        rebuilt = cold.core(home) != before
    note = "" if found else f"not measured: {group.failures.get('core', 'a first step failed')}"
    session.say([Row("the same, operators not yet compiled", RIVALS["eager"].title, found,
                  must={"jittor": plan.START_WITHOUT_OPERATORS},
                  note="Jittor's core was compiled too: not what the row says" if rebuilt else note)])


def first_steps(session: Session, times: int, environment: dict[str, str | None] | None) -> list[tuple[float, float]]:
    batch = random_batch([session.plan.sizes[0]] * 2, session.config.model.num_classes, 0, OBJECTS)
    found: dict[str, list[float]] = {JITTOR: [], "eager": []}
    for _ in range(times):
        for key, values in found.items():
            group = Group(session.clock, session.threads, session.tell)
            began = time.perf_counter()
            group.add(key, session.config, session.config.model.num_classes, environment=environment)
            group.put("fixed", batch)
            if group.ask(key, "train", "fixed"):
                values.append(time.perf_counter() - began)
            group.close()
    return pairs(found[JITTOR], found["eager"])
