"""Running means of what an epoch logs."""

from detr_jittor.twin.loss_terms import term
from detr_jittor.types import Batch

BY_OBJECT = "class_error_by_object"


class Averages:
    """Sum and count of each name. They travel in a checkpoint, so that a resumed epoch logs what it would have."""

    def __init__(self, sums: dict[str, list] | None = None):
        self.sums = {name: list(pair) for name, pair in (sums or {}).items()}

    def add(self, values: dict[str, float], weight: int = 1) -> None:
        for name, value in values.items():
            pair = self.sums.setdefault(name, [0.0, 0])
            pair[0] += value * weight
            pair[1] += weight

    def add_step(self, losses: dict[str, float], weights: dict[str, float], batch: Batch) -> dict[str, float]:
        """Take in what a twin says of a batch. Returns: it, as the reference code logs it.

        The reference code's class error is a mean over steps, in which one wrong object of one counts as much as
        twenty of twenty; the mean over objects stands beside it.
        """
        values = logged(losses, weights)
        self.add(values)
        if objects := sum(len(target.labels) for target in batch.targets):
            self.add({BY_OBJECT: values["class_error"]}, objects)
        return values

    def entries(self) -> dict[str, float]:
        """The means, and the number of objects behind the class error."""
        counted = {"objects": self.sums[BY_OBJECT][1]} if BY_OBJECT in self.sums else {}
        return {**self.means(), **counted}

    def merge(self, sums: dict[str, list]) -> None:
        """Take in what another process has summed up."""
        for name, (total, count) in sums.items():
            pair = self.sums.setdefault(name, [0.0, 0])
            pair[0] += total
            pair[1] += count

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items() if count}

    def total(self, name: str) -> float:
        return self.sums.get(name, [0.0, 0])[0]



def logged(losses: dict[str, float], weights: dict[str, float]) -> dict[str, float]:
    """A step's losses as the reference code logs them: `loss`, each term weighted, and each as `…_unscaled`.

    Args:
        losses: `loss` (the weighted sum) and the unweighted terms, as a twin returns them.
    """
    terms = {name: value for name, value in losses.items() if name not in ("loss", "grad_norm")}
    scaled = {name: value * weights[base] for name, value in terms.items()
              if (base := term(name)) in weights}
    return {"class_error": losses.get("class_error", 0.0), "loss": losses["loss"], **scaled,
            **{f"{name}_unscaled": value for name, value in terms.items()}}
