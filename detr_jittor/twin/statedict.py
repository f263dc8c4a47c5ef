"""Whether a state fits a model: all of it, or one error that lists everything that does not."""

import numpy as np

from detr_jittor.errors import DetrError
from detr_jittor.types import State

SHOWN = 8  # keys listed of each kind


def check_state(state: State, shapes: dict[str, tuple[int, ...]], trained: set[str]) -> None:
    """Compare a state with a model's shapes: weights, the optimizer's moments, moving averages.

    Args: shapes: {name: shape} of all weights; trained: the names that the optimizer moves.

    Errors: DetrError, listing together the missing, surplus and misshapen keys, or those that are not finite: oneDNN's
        ReLU would make 0 of a NaN, and nothing downstream would notice.
    """
    missing = [n for n in shapes if n not in state.model]
    surplus = [n for n in state.model if n not in shapes]
    other = [f"{n} {tuple(v.shape)} instead of {shapes[n]}" for n, v in state.model.items()
             if n in shapes and tuple(v.shape) != shapes[n]]
    if state.optimizer:
        missing += [f"optimizer state of {n}" for n in sorted(trained - state.optimizer.keys())]
        surplus += [f"optimizer state of {n}" for n in sorted(state.optimizer.keys() - trained)]
        other += [f"optimizer state of {n}" for n, (m, v) in state.optimizer.items()
                  if n in trained and not tuple(m.shape) == tuple(v.shape) == shapes[n]]
    surplus += [f"average of {n}" for n in state.average if n not in shapes]
    other += [f"average of {n} {tuple(v.shape)} instead of {shapes[n]}" for n, v in state.average.items()
              if n in shapes and tuple(v.shape) != shapes[n]]
    faults = [f"{kind} ({len(keys)}): {', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''}"
              for kind, keys in (("missing", missing), ("surplus", surplus), ("of another shape", other)) if keys]
    if faults:
        raise DetrError(f"the weights do not fit this model; {'; '.join(faults)}.",
                        "Use the model options (--backbone, --hidden_dim, --num_queries, …) they were trained with.")
    arrays = [*state.model.items(), *((f"average of {n}", v) for n, v in state.average.items()),
              *((f"optimizer state of {n}", *pair) for n, pair in state.optimizer.items())]
    if diverged := [n for n, *values in arrays if not all(np.isfinite(v).all() for v in values)]:
        raise DetrError(f"weights that are not finite ({len(diverged)}): {', '.join(diverged[:SHOWN])}.",
                        "They have diverged; take an earlier checkpoint.")
