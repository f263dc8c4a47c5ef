"""Forward passes of all rivals, and whether all compute the same."""

from detr_jittor.bench import flops, plan
from detr_jittor.bench.group import Group
from detr_jittor.bench.plan import Size
from detr_jittor.bench.rivals import JITTOR, JITTOR_BF16, RIVALS
from detr_jittor.bench.session import OBJECTS, Session, titled
from detr_jittor.twin import processor
from detr_jittor.twin.synthetic import random_batch


def inference(session: Session) -> None:
    """Forward passes of all rivals: NumPy pictures in, NumPy logits and boxes out."""
    rivals = ["eager", *session.plan.settings, *session.plan.engines]
    session.tell(f"Inference: {', '.join(RIVALS[key].title for key in [JITTOR, *rivals])}")
    if session.plan.engines:
        export(session)
    ours = [JITTOR, JITTOR_BF16] if any("bf16" in key for key in rivals) else [JITTOR]
    group = session.group([*ours, "eager", *session.plan.settings])
    for key in session.plan.engines:
        group.add(key, session.config, session.config.model.num_classes, session.model)
    for pictures in session.plan.inference_batches:
        if pictures > 1 and "compile" in rivals:  # a minute of compiling for each shape
            rivals.remove("compile")
            group.leave("compile")
        for size in session.plan.sizes:
            passes(session, group, size, pictures, rivals)
    group.close()


def passes(session: Session, group: Group, size: Size, pictures: int, rivals: list[str]) -> None:
    classes, name = session.config.model.num_classes, f"inference, batch {pictures}, {titled(size)}"
    group.put(name, random_batch([size] * pictures, classes, 1, OBJECTS))
    group.in_turn("infer", name, 2)  # warm-up
    compare_logits(session, group, name)
    found = group.in_turn("infer", name, session.plan.inference_rounds if pictures == 1 else session.plan.rounds)
    rows = group.rows(name, session.couples(rivals), found, limit=session.limit(found),
                      work=flops.inference(session.config, classes, pictures, *size))
    for row, (mine, rival) in zip(rows, session.couples(rivals)):
        musts = plan.INFERENCE_BF16 if mine == JITTOR_BF16 else plan.INFERENCE
        if pictures == 1 and rival in musts.get(size, {}):
            row.must = {"ratio": musts[size][rival]}
        if processor.limit() and not RIVALS[rival].is_twin and row.pairs:
            row.must, row.note = {}, f"its instructions are not limited by {processor.VARIABLE}"
    session.say(rows)


def export(session: Session) -> None:
    """Make the ONNX file, once, in a process of its own: it is not part of what anybody is timed with."""
    if isinstance(session.model, bytes):
        return
    group = session.group(["eager"])
    session.model = group.ask("eager", "export") or f"no exported model ({group.failures.get('eager')})"
    group.close()


def compare_logits(session: Session, group: Group, name: str) -> None:
    """That all compute the same is not taken for granted."""
    wanted = group.ask("eager", "logits", name)
    for key in group.members:
        found = group.ask(key, "logits", name)
        if found is not None and wanted is not None:
            title, difference = RIVALS[key].title, float(abs(found - wanted).max())
            session.differences[title] = max(session.differences.get(title, 0.0), difference)
