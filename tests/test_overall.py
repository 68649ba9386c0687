"""Scores over several tasks against hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest

from qladder.runners.overall import overall, probability_of_improvement, profile

TASKS = [np.array([0.0, 1.0]), np.array([0.5, 0.5, 2.0]), np.array([4.0])]


def test_values_by_hand() -> None:
    found = overall(TASKS)
    # sorted 0, 0.5, 0.5, 1, 2, 4: one and a half are cut at each end
    assert found.iqm.value == pytest.approx((0.5 * 0.5 + 0.5 + 1 + 0.5 * 2) / 3)
    assert found.mean.value == pytest.approx((0.5 + 1 + 4) / 3)
    assert found.median.value == pytest.approx(1)
    assert found.optimality_gap.value == pytest.approx(1 - (0 + 1 + 0.5 + 0.5 + 1 + 1) / 6)
    assert found.iqm.interval() == (None, None)  # a task of one seed


def test_a_task_without_spread_adds_none() -> None:
    found = overall([np.full(5, 0.25), np.full(5, 0.75)])
    for part in (found.iqm, found.mean, found.median, found.optimality_gap):
        assert part.interval() == (part.value, part.value) == pytest.approx((0.5, 0.5))


def test_draws_stay_within_tasks() -> None:
    """The mean of the tasks' means: the first task's is 0, 1/2 or 1, the second's always 10."""
    found = overall([np.array([0.0, 1.0]), np.full(7, 10.0)])
    stretched = {5.25 + side * np.sqrt(2) / 4 for side in (-1, 0, 1)}  # the root of n / (n - 1)
    assert set(np.round(found.mean.draws, 9)) == set(np.round(list(stretched), 9))
    assert found.mean.standard_error == pytest.approx(np.sqrt(1 / 4) / 2, abs=0.005)


def test_an_interval_of_skewed_tasks_holds_their_value() -> None:
    """Nine seeds of ten have all there is: the middle half is 1, whatever the others are."""
    found = overall([np.array([1.0] * 9 + [low]) for low in (0.7, 0.8)]).iqm
    low, high = found.interval()
    assert low is not None
    assert high is not None
    assert low <= found.value == pytest.approx(1)
    assert high == pytest.approx(1)


def test_profiles_count_what_is_above() -> None:
    marks = np.array([-1.0, 0.0, 0.5, 0.9, 4.0])
    assert [share.value for share in profile(TASKS, marks)] == pytest.approx([1, 5 / 6, 3 / 6, 3 / 6, 0])


def test_probability_of_improvement_is_the_mean_over_tasks() -> None:
    a, b = [np.array([1.0, 2.0]), np.array([0.0])], [np.array([1.0]), np.array([1.0, -1.0, -1.0])]
    assert probability_of_improvement(a, b).interval() == (None, None)
    found = probability_of_improvement(a, b)
    assert found.value == pytest.approx(((0.5 + 1) / 2 + 2 / 3) / 2)
    assert probability_of_improvement(a, a).value == pytest.approx(0.5)
    draws = set(np.round(found.draws, 9))
    assert min(draws) == pytest.approx((0.5 + 0) / 2)  # both seeds of the first task tie, all of the second lose
    assert max(draws) == pytest.approx(1)
    assert found.draws.mean() == pytest.approx(found.value, abs=0.01)


def test_probability_of_improvement_knows_how_sure_it_is() -> None:
    rng = np.random.default_rng(0)
    one, other = ([rng.normal(mean, 1, 10) for _ in range(4)] for mean in (1.0, 0.0))
    low, high = probability_of_improvement(one, other).interval()
    assert low is not None
    assert high is not None
    assert 0.5 < low < 0.76 < high < 1  # P = Phi(1 / sqrt(2)) = 0.760
