"""The matching against an oracle that tries every assignment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_jittor.errors import DetrError
from detr_jittor.reference.matching import cheapest_assignment
from detr_jittor.twin.matching import match


@st.composite
def problems(draw):
    """(cost [L, B, Q, ΣT], sizes), with ties: whole numbers of a small range are common."""
    layers, queries = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (layers, len(sizes), queries, sum(sizes))
    whole = draw(st.booleans())
    return (random.integers(-3, 4, shape).astype(float) if whole else random.normal(size=shape)), sizes


@given(problems())
@settings(max_examples=60)
def test_every_layer_and_picture_gets_its_cheapest_assignment(problem):
    cost, sizes = problem
    result = match(cost, sizes)
    assert len(result) == len(cost)
    for layer, assignments in zip(cost, result):
        assert len(assignments) == len(sizes)
        for picture, (size, found) in enumerate(zip(sizes, assignments)):
            own = layer[picture][:, sum(sizes[:picture]):sum(sizes[:picture]) + size]  # [Q, T]
            assert len(set(found.queries)) == len(set(found.objects)) == len(found.queries) == min(own.shape)
            assert own[found.queries, found.objects].sum() == pytest.approx(cheapest_assignment(own)[0], abs=1e-12)


@given(problems(), st.floats(-5, 5, allow_subnormal=False), st.sampled_from([0.5, 3.0]))
@settings(max_examples=30)
def test_shift_and_scale_of_the_cost_change_nothing(problem, shift, scale):
    cost, sizes = problem
    for layer, before, after in zip(cost, match(cost, sizes), match(cost * scale + shift, sizes)):
        for picture, (size, a, b) in enumerate(zip(sizes, before, after)):
            own = layer[picture][:, sum(sizes[:picture]):][:, :size]
            assert own[a.queries, a.objects].sum() == pytest.approx(own[b.queries, b.objects].sum(), abs=1e-9)


def test_perfect_queries_find_their_objects():
    cost = 1 - np.eye(5)[None, None, :, [3, 0, 4]]  # [1, 1, 5, 3]
    found = match(cost, [3])[0][0]
    assert dict(zip(found.objects.tolist(), found.queries.tolist())) == {0: 3, 1: 0, 2: 4}
    assert found.queries.dtype == found.objects.dtype == np.int64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_cost_that_is_not_finite_is_an_error(bad):
    cost = np.zeros((1, 1, 2, 2))
    cost[0, 0, 1, 1] = bad
    with pytest.raises(DetrError, match="not finite"):
        match(cost, [2])
