"""The measurements, one after another. Each makes its rows as soon as it is done."""

from detr_jittor.bench import products
from detr_jittor.bench.inference import inference
from detr_jittor.bench.numbers import Row
from detr_jittor.bench.session import Session
from detr_jittor.bench.small_steps import demo_step
from detr_jittor.bench.starts import starts
from detr_jittor.bench.training import training


def run(session: Session) -> list[Row]:
    """All rows, the most important first: the time may end before them. Those not measured have the reason."""
    training(session, session.plan.training_batches[0], ["eager"], more=True)
    inference(session)
    demo_step(session)
    starts(session)
    for setting in session.plan.settings:  # few at a time: each takes some gigabytes
        training(session, session.plan.training_batches[0], [setting])
    for batch in session.plan.training_batches[1:]:
        training(session, batch, ["eager"])
    if session.plan.run_rounds:
        session.say(products.real_pictures(session, weights(session)))
    if session.plan.demo_runs:
        session.say(products.demo_run(session))
    return session.rows


def weights(session: Session) -> str:
    """A checkpoint with the weights that all are given."""
    file = session.scratch / "weights.safetensors"
    group = session.group(["eager"])
    group.ask("eager", "save", str(file))
    group.close()
    return str(file)
