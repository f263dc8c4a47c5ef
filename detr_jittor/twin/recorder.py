"""Listens to a model while it runs: what each module and each fused step puts out. Knows no framework."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Kinks:
    """What every ReLU let through in one forward pass, in the order in which they ran."""

    sides: list[np.ndarray] = field(default_factory=list)  # bits, packed; those of a ReLU that was told its side: none
    decisions: int = 0  # of all ReLUs that were told their side
    contrary: int = 0  # those of them that the input's sign would have decided otherwise
    farthest: float = 0.0  # largest input that was decided otherwise, relative to the inputs' root mean square

    def pack(self, numpy: Callable) -> None:
        """Compute what has been noted. Args: numpy: from a framework's array of booleans to NumPy's."""
        self.sides = [np.packbits(numpy(side)) for side in self.sides]

    def note(self, through: np.ndarray, x: np.ndarray) -> None:
        """A ReLU with input x was told which elements to let through."""
        contrary = through != (x > 0)
        self.sides.append(np.zeros(0, np.uint8))
        self.decisions += x.size
        if contrary.any():
            self.contrary += int(contrary.sum())
            scale = np.sqrt(np.mean(np.square(x, dtype=np.float64)))
            self.farthest = max(self.farthest, float(np.abs(x[contrary]).max() / scale))


@dataclass
class Gradients:
    of: dict[str, np.ndarray]  # parameter → its gradient
    kinks: Kinks


class Recorder:
    """Collects outputs by the path of the module they come from, in the order in which they are made.

    An output that several modules hand on is kept once, under the innermost path; those of a module that runs several
    times as `path`, `path#2`, `path#3`, …
    """

    def __init__(self, named_modules):
        self.path_of = {id(module): path for path, module in named_modules}
        self.found = {}
        self.calls = Counter()
        self.seen = set()  # ids; what they belong to is in `found`, so none is used twice

    def put(self, path: str, output) -> None:
        """Keep an output; those inside a list or tuple as `path[0]`, `path[1]`, …"""
        if isinstance(output, (list, tuple)):
            for i, part in enumerate(output):
                self.put(f"{path}[{i}]", part)
        elif id(output) not in self.seen:
            self.seen.add(id(output))
            self.calls[path] += 1
            self.found[path if self.calls[path] == 1 else f"{path}#{self.calls[path]}"] = output


def some_queries(count: int) -> np.ndarray:
    """The places of queries whose masks are recorded, of so many in a batch: every tenth, for they are large."""
    return np.arange(0, count, 10)


@contextmanager
def listening(owner, attribute: str, heard: Callable) -> Iterator[None]:
    """For a while, call `heard(output, *arguments, **options)` after each call of a function of a module or class."""
    original = getattr(owner, attribute)

    def listener(*args, **options):
        output = original(*args, **options)
        heard(output, *args, **options)
        return output

    with replaced(owner, attribute, listener):
        yield


@contextmanager
def replaced(owner, attribute: str, value) -> Iterator[None]:
    """For a while, another function in a module or class."""
    original = getattr(owner, attribute)
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, original)
