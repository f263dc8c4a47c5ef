"""Stage 8: one AdamW step with given gradients, weight decay by itself, and the learning rates of the whole schedule.

The truth is the NumPy oracle in float64.
"""

import numpy as np

from detr_jittor.align.measure import Item, compare, exact
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import JITTOR, PYTORCH, Trial
from detr_jittor.config.options import OptimConfig
from detr_jittor.reference.optim import adamw, clip_factor
from detr_jittor.twin import seeding
from detr_jittor.twin.parameters import in_backbone
from detr_jittor.types import State

SIZE = 1e-3  # of gradients and moments
STEPS = 7  # that the moments have behind them
FACTOR = 0.37  # of the learning rates
LARGE_FACTOR = 1000.0  # with the paper's rates a single step's decay is smaller than float32 resolves


def run(trial: Trial) -> Stage:
    trained = trial.once("structure", PYTORCH, "structure")["trained"]
    items = step_items(trial, "step", random_moments(trial, trained), random_gradients(trial, trained), FACTOR)
    if trial.config.optim.weight_decay:
        zeros = {n: np.zeros_like(trial.state.model[n]) for n in trained}
        nothing = State(trial.state.model, {n: (z, z) for n, z in zeros.items()}, 0)
        items += step_items(trial, "decay alone", nothing, zeros, LARGE_FACTOR)
    for name in (JITTOR, PYTORCH):
        trial.ask(name, "load", trial.state)
    return Stage("optimizer", items + schedule_items(trial), ["errors are relative to the size of the update"])


def random_gradients(trial: Trial, trained: list[str]) -> dict[str, np.ndarray]:
    return {n: SIZE * draw(trial, "gradient", n) for n in trained}


def random_moments(trial: Trial, trained: list[str]) -> State:
    """The trial's weights with moments as after some steps."""
    moments = {n: (SIZE * draw(trial, "exp_avg", n), np.square(SIZE * (1 + np.abs(draw(trial, "exp_avg_sq", n)))))
               for n in trained}
    return State(trial.state.model, moments, STEPS)


def draw(trial: Trial, what: str, name: str) -> np.ndarray:
    rng = seeding.generator(trial.config.run.seed, seeding.place_id(f"{what} of {name}"))
    return rng.standard_normal(trial.state.model[name].shape, np.float32)


def step_items(trial: Trial, label: str, state: State, gradients: dict, factor: float) -> list[Item]:
    """One step of both twins from this state with these gradients, against the oracle."""
    answers = {}
    for name, ask in ((JITTOR, trial.ask), (PYTORCH, lambda *args: trial.once(label, *args))):
        answers[name] = ask(name, "update", state, gradients, factor)
    (jittor, jittor_norm), (pytorch, pytorch_norm) = answers[JITTOR], answers[PYTORCH]
    optim = trial.config.optim
    clip, norm = clip_factor(list(gradients.values()), optim.clip_max_norm)
    items = [compare(f"{label}: norm before clipping", jittor_norm, pytorch_norm, norm),
             exact(f"{label}: steps counted", jittor.steps, state.steps + 1)]
    for n, gradient in gradients.items():
        before = state.model[n]
        lr = factor * (optim.lr_backbone if in_backbone(n) else optim.lr)
        wanted = adamw(before, gradient * np.float64(clip), *state.optimizer[n], state.steps + 1, lr,
                       optim.weight_decay)
        items.append(compare(f"{label}: update of {n}", *(new - before.astype(np.float64) for new in
                             (jittor.model[n], pytorch.model[n], wanted[0])), floor=resolution(wanted[0])))
        for i, moment in enumerate(("exp_avg", "exp_avg_sq")):
            items.append(compare(f"{label}: {moment} of {n}", jittor.optimizer[n][i], pytorch.optimizer[n][i],
                                 wanted[i + 1]))
    return items


def resolution(x: np.ndarray) -> float:
    """The distance between two float32 numbers at the largest element."""
    return float(np.spacing(np.float32(np.abs(x).max())))


def schedule_items(trial: Trial) -> list[Item]:
    """The learning rates that are really applied to transformer and backbone, in each epoch."""
    optim = trial.config.optim
    warm = optim.warmup_steps
    times = [(0, step) for step in sorted({0, warm // 2, max(warm - 1, 0)})]
    times += [(epoch, warm + epoch) for epoch in range(optim.epochs)]
    items = []
    for label, some, options in (("learning rates", times, {}),
                                 ("learning rates without clipping", times[-1:], {"clip_max_norm": 0.0})):
        jittor = trial.ask(JITTOR, "learning_rates", some, **options)
        pytorch = trial.once(label, PYTORCH, "learning_rates", some, **options)
        items += [rate_item(f"{label}, epoch {time[0]}, step {time[1]}", *rates, learning_rates(optim, *time))
                  for time, *rates in zip(some, jittor, pytorch)]
    return items


def rate_item(name: str, jittor: tuple, pytorch: tuple, wanted: tuple) -> Item:
    """The rates of transformer and backbone."""
    error = max(abs(rate - w) / w for rates in (jittor, pytorch) for rate, w in zip(rates, wanted) if w > 0)
    note = f"jittor {jittor[0]:.3g} and {jittor[1]:.3g}, wanted {wanted[0]:.3g} and {wanted[1]:.3g}"
    return Item(name, bool(error <= tolerance("learning rate")), note=note)


def learning_rates(optim: OptimConfig, epoch: int, step: int) -> tuple[float, float]:
    """What the schedule is to be: a tenth after each lr_drop epochs, and a linear rise at the start."""
    factor = 1.0
    for _ in range(epoch // optim.lr_drop):
        factor /= 10
    if step < optim.warmup_steps:
        factor *= (step + 1) / optim.warmup_steps
    return optim.lr * factor, optim.lr_backbone * factor
