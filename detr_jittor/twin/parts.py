"""A step whose batch is worked through in parts, one after the other (--accumulate): the memory of one part, and the
same losses and gradients as the whole.

Every loss of DETR is a mean over the step: over its objects, or over its queries with weights. A part divides by what
the whole step has, which is known before any of it is computed; so losses and gradients of the parts add up.
"""

from collections.abc import Iterator, Sequence

from detr_jittor.twin import seeding
from detr_jittor.twin.processes import Processes
from detr_jittor.types import Assignment, Batch


def parts(batch: Batch, size: int, seed: int) -> Iterator[tuple[Batch, list[int], int]]:
    """(part, objects in each picture that is not in it, seed), of at most `size` pictures, padded as the whole.

    The first part has the step's own seed, so that a step of one part is as it is without parts.
    """
    objects = [len(target.labels) for target in batch.targets]
    for number, start in enumerate(range(0, len(batch), size)):
        rows = slice(start, start + size)
        part = Batch(batch.images[rows], batch.mask[rows], batch.targets[rows])
        yield part, objects[:start] + objects[start + size:], seeding.step_seed(seed, number) if number else seed


def portions(batch: Batch, indices: list[list[Assignment]],
             count: int) -> list[tuple[Batch, list[int], list[list[Assignment]]]]:
    """[(part, objects in each picture that is not in it, its part of the assignment)], one for each of so many
    processes."""
    size = -(-len(batch) // count)
    of_part = size * len(indices[0]) // len(batch)  # a picture has one assignment for each group of queries
    return [(part, rest, [layer[number * of_part:(number + 1) * of_part] for layer in indices])
            for number, (part, rest, _) in enumerate(parts(batch, size, 0))]


def divisor(objects: int, processes: Processes) -> float:
    """What the losses of a step with so many objects are divided by: their mean over the processes, of which all
    together have at least 1."""
    return max(float(processes.mean(objects)), 1 / processes.size)


def share(part: Sequence[float], rest: Sequence[float]) -> float:
    """What a part contributes to a mean over the step that is weighted so; unweighted where all weights are 0."""
    whole = sum(part) + sum(rest)
    return sum(part) / whole if whole else len(part) / (len(part) + len(rest))


def class_weight(sizes: Sequence[int], queries: int, eos_coef: float) -> float:
    """Sum of the weights in the class loss of all queries of pictures with so many objects."""
    matched = sum(min(size, queries) for size in sizes)
    return matched + eos_coef * (len(sizes) * queries - matched)


def added(logs: list[dict[str, float]]) -> dict[str, float]:
    """The losses of the parts as those of the step."""
    return {name: sum(log[name] for log in logs) for name in logs[0]}
