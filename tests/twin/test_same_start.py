"""Processes that do not start alike are refused before the first step."""

import numpy as np
import pytest

from detr_jittor.errors import DetrError
from detr_jittor.twin.processes import Processes, check_same_start
from detr_jittor.types import State


class First(Processes):
    """Process 0 of three, of which process 2 has something else."""

    size = 3

    def __init__(self, other: tuple):
        self.other = other

    def gather(self, value) -> list:
        return [value, value, start(*self.other)]


class Recorder(Processes):
    def gather(self, value) -> list:
        self.value = value
        return [value]


def start(weight: float, steps: int, *sizes: int) -> tuple:
    """What a process tells the others of its start."""
    recorder = Recorder()
    check_same_start(recorder, state(weight, steps), *sizes)
    return recorder.value


def state(weight: float, steps: int) -> State:
    return State({"a": np.zeros(3, np.float32), "b": np.full(2, weight, np.float32)}, {}, steps)


def test_the_same_start_is_accepted():
    check_same_start(First((0.5, 7, 40, 5)), state(0.5, 7), 40, 5)


@pytest.mark.parametrize("other", [
    (np.nextafter(np.float32(0.5), np.float32(1)), 7, 40, 5), (0.5, 8, 40, 5), (0.5, 7, 41, 5), (0.5, 7, 40, 4),
], ids=["a bit of a weight", "steps", "training set", "validation set"])
def test_another_start_is_refused_and_the_process_named(other):
    with pytest.raises(DetrError, match="process 2 starts from other weights or another dataset than process 0"):
        check_same_start(First(other), state(0.5, 7), 40, 5)
