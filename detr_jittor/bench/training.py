"""Training steps: of one size and of varying ones, their memory, their parts, and single kernels."""

from statistics import median

from detr_jittor.bench import flops, kernels, plan
from detr_jittor.bench.group import LIMIT, Group
from detr_jittor.bench.plan import Size
from detr_jittor.bench.rivals import JITTOR, JITTOR_BF16, RIVALS
from detr_jittor.bench.session import OBJECTS, TWINS, Session, seconds, titled
from detr_jittor.bench.stages import STAGES
from detr_jittor.twin.synthetic import random_batch


def training(session: Session, pictures: int, rivals: list[str], more: bool = False) -> None:
    """Training steps. Args: more: also on sizes not seen before, memory, and the parts of a step."""
    size, ours = session.plan.sizes[0], [JITTOR, JITTOR_BF16] if "bf16" in rivals else [JITTOR]
    session.tell(f"Training, batch {pictures}, {titled(size)}: {', '.join(RIVALS[k].title for k in [*ours, *rivals])}")
    group = session.group([*ours, *rivals])
    batch = random_batch([size] * pictures, session.config.model.num_classes, 0, OBJECTS)
    group.put("fixed", batch)
    group.in_turn("train", "fixed", 2)  # warm-up
    found = seconds(group.in_turn("train", "fixed", session.plan.rounds))
    work = flops.training(session.config, session.config.model.num_classes, pictures, *size)
    limit, name = session.limit(found), f"training step, batch {pictures}, {titled(size)}"
    rows = group.rows(name, session.couples(rivals), found, work=work, limit=limit)
    for row, (mine, rival) in zip(rows, session.couples(rivals)):
        if pictures == session.plan.training_batches[0]:
            wanted = (plan.TRAINING_BF16 if mine == JITTOR_BF16 else plan.TRAINING).get(rival)
            row.must = {"ratio": wanted} if wanted else {}
            row.must |= {"limit_fraction": plan.FRACTION} if rival == "eager" else {}
    session.say(rows)
    memory(session, group, f"peak memory, training, batch {pictures}, {titled(size)}", rivals)
    if more:
        varying(session, group, pictures)
        memory(session, group, f"peak memory, training, batch {pictures}, varying sizes", rivals)
        if session.plan.stages:
            stages_of_a_step(session, group)
        if session.plan.kernel_rounds:
            single_kernels(session, group)
    session.identify(group)  # by now it is known which layers have no quick code
    group.close()


def memory(session: Session, group: Group, name: str, rivals: list[str]) -> None:
    found = {key: [memory] for key in group.members if (memory := group.ask(key, "peak_memory"))}
    rows = group.rows(name, session.couples(rivals), found, unit="MB")
    for row in rows:
        row.must = {"ratio": plan.MEMORY_RATIO} if row.rival == RIVALS["eager"].title else {}
    session.say(rows)


def varying(session: Session, group: Group, pictures: int) -> None:
    found: dict[str, list[float]] = {}
    work = []
    for number, sizes in enumerate(plan.VARYING[:session.plan.varying]):
        sizes = [shrunk(session, size) for size in (sizes * pictures)[:pictures]]
        batch = random_batch(sizes, session.config.model.num_classes, number, OBJECTS)
        group.put("new", batch)
        for key, values in seconds(group.in_turn("train", "new", 1)).items():
            found.setdefault(key, []).extend(values)
        shape = batch.images.shape[2:]
        work.append(flops.training(session.config, session.config.model.num_classes, pictures, *shape))
    session.say(group.rows(f"training step, batch {pictures}, sizes not seen before", TWINS, found,
                        work=median(work) if work else None, limit=session.limit(found),
                        must={"ratio": plan.VARYING_RATIO}))


def shrunk(session: Session, size: Size) -> Size:
    """A size of `plan.VARYING` in a plan whose pictures are smaller."""
    scale = session.plan.sizes[0][0] / 480
    return tuple(max(32, round(n * scale)) for n in size)


def stages_of_a_step(session: Session, group: Group) -> None:
    """The parts of a step. They add up to a little more than a step, which need not wait for each."""
    group.in_turn("stages", "fixed", 1)  # warm-up
    parts = {key: values for key, values in group.in_turn("stages", "fixed", session.plan.rounds).items()
             if key != LIMIT}
    data = group.in_turn("data", "train", 2 * session.plan.rounds)
    session.say(group.rows("stage: data, in a process that reads pictures", TWINS, data))
    for stage in STAGES:
        values = {key: [v[stage] for v in answers] for key, answers in parts.items()}
        session.say(group.rows(f"stage: {stage}", TWINS, values))


def single_kernels(session: Session, group: Group) -> None:
    """Single kernels, which small models of other users are made of too."""
    for case in kernels.CASES:
        group.in_turn("kernel", case.name, 1, 1)  # warm-up
        found = group.in_turn("kernel", case.name, session.plan.kernel_rounds, session.plan.kernel_repeat)
        gradients = 2  # of the input and of the weight, or of both factors
        session.say(group.rows(f"kernel: {case.name}", TWINS, found, limit=session.limit(found),
                            work=case.operations and (1 + gradients) * case.operations))
