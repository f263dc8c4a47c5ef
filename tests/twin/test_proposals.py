"""Which places the queries begin at, and which stand for an object, against loops that say it one by one."""

import numpy as np
import pytest

from detr_jittor.twin.proposals import best, standing_for
from detr_jittor.types import Target

H, W = 8, 12  # rows and columns of places


def grid() -> np.ndarray:
    """[S, 2] the centres (x, y) of all places"""
    return np.array([((x + 0.5) / W, (y + 0.5) / H) for y in range(H) for x in range(W)])


def target(boxes: np.ndarray) -> Target:
    count = len(boxes)
    return Target(1, np.arange(count), boxes.astype(np.float32), np.ones(count, np.float32), np.zeros(count, bool),
                  (80, 120), (80, 120))


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.concatenate([rng.uniform(0.05, 0.95, (count, 2)), rng.uniform(0.03, 0.6, (count, 2))], 1)


def test_the_best_places_in_their_own_order():
    scores = np.float32([[0.1, 3.0, 2.0, 5.0, 2.0], [7.0, 1.0, 1.0, 1.0, 0.0]])
    assert best(scores, 3).tolist() == [[1, 2, 3], [0, 1, 2]]  # of equal ones the first
    assert best(scores, 5).tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("seed", range(8))
def test_the_nearest_place_stands_for_an_object(seed):
    rng = np.random.default_rng(seed)
    targets = [target(random_boxes(rng, count)) for count in (5, 0, 12)]
    centres = np.stack([grid()] * 3)
    hidden = centres[1, :, 0] > 0.7
    centres[2, hidden] += 1e4
    found = dict(zip(*standing_for(targets, centres)))
    wanted, before = {}, 0
    for picture, t in enumerate(targets):
        claims = {}  # place → (distance, object)
        for number, box in enumerate(t.boxes.astype(np.float64)):
            away = (centres[picture] - box[:2]) / box[2:]
            distance = (away ** 2).sum(1)
            claims.setdefault(int(distance.argmin()), []).append((distance.min(), number))
        wanted |= {picture * len(grid()) + place: before + min(claim)[1] for place, claim in claims.items()}
        before += len(t.labels)
    assert found == wanted
    assert not any(hidden[place % len(grid())] for place in found if place >= 2 * len(grid()))


def test_a_batch_without_objects():
    places, objects = standing_for([target(np.zeros((0, 4)))] * 2, np.stack([grid()] * 2))
    assert places.shape == objects.shape == (0,) and places.dtype == objects.dtype == np.int64


def test_a_last_digit_decides_nothing():
    """An object between two places, as whole pixels often put it, has the first of them."""
    for noise in (-3e-8, 0, 3e-8):
        centres = grid()[None].copy()
        centres[0, 5] += noise
        boxes = np.array([[0.5, 0.5 / H, 0.2, 0.2]])  # in the first row between the places 5 and 6
        assert standing_for([target(boxes)], centres)[0].tolist() == [5]
