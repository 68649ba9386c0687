"""Folded windows against hand-worked numbers and a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qladder.replay.returns import lambda_returns, n_step, one_step, trace


def fold(reward: list[float], discount: list[int], last: list[bool], gamma: float = 0.99) -> tuple[Any, Any, Any]:
    folded, factor, length = n_step(np.array([reward], np.float32), np.array([discount]), np.array([last]), gamma)
    assert (folded.dtype, factor.dtype) == (np.float32, np.float32)
    assert folded.shape == factor.shape == length.shape == (1,)
    return float(folded[0]), float(factor[0]), int(length[0])


@pytest.mark.parametrize(
    ("discount", "last", "reward", "factor", "length"),
    [
        ([1, 1, 1], [False, False, False], 1 + 0.99 * 2 + 0.9801 * 4, 0.970299, 3),
        ([1, 1, 1], [False, True, False], 1 + 0.99 * 2, 0.9801, 2),  # truncated: the bootstrap stays
        ([1, 0, 1], [False, True, False], 1 + 0.99 * 2, 0.0, 2),  # terminated
        ([0, 1, 1], [True, True, True], 1.0, 0.0, 1),
        ([1, 1, 1], [True, True, True], 1.0, 0.99, 1),
        ([1, 1, 0], [False, False, True], 1 + 0.99 * 2 + 0.9801 * 4, 0.0, 3),
        ([1, 0, 1], [False, False, False], 1 + 0.99 * 2, 0.0, 3),  # a life lost on the way: 4 is no longer hoped for
        ([0, 1, 1], [False, False, True], 1.0, 0.0, 3),
        ([1, 1, 0], [False, True, False], 1 + 0.99 * 2, 0.9801, 2),  # what follows the end is not looked at
    ],
)
def test_hand_worked(discount: list[int], last: list[bool], reward: float, factor: float, length: int) -> None:
    assert fold([1, 2, 4], discount, last) == (pytest.approx(reward), pytest.approx(factor), length)


def test_cut_at_two() -> None:
    assert fold([1, 1, 9], [1, 1, 1], [False, True, False]) == (pytest.approx(1.99), pytest.approx(0.9801), 2)


def test_one_step() -> None:
    assert one_step(1.0, 0.99) == 0.99
    assert one_step(0.0, 0.99) == 0.0
    assert fold([3], [1], [False]) == (3.0, pytest.approx(0.99), 1)


def test_eligibility_fades_by_gamma_and_lambda_and_ends_with_the_bootstrap() -> None:
    assert trace(1.0, 0.9, 0.8) == pytest.approx(0.72)
    assert trace(0.0, 0.9, 0.8) == 0.0


def test_discounts_of_bytes_are_not_rounded() -> None:
    reward, last = np.ones((2, 2), np.float32), np.zeros((2, 2), np.bool_)
    folded, factor, _ = n_step(reward, np.array([[1, 1], [0, 1]], np.uint8), last, 0.5)
    assert folded.tolist() == [1.5, 1.0]
    assert factor.tolist() == [0.25, 0.0]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_as_a_plain_loop(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 5))
    step = st.tuples(st.integers(-9, 9), st.integers(0, 1), st.booleans())
    rows = data.draw(st.lists(st.lists(step, min_size=n, max_size=n), min_size=1, max_size=4))
    gamma = data.draw(st.sampled_from([0.0, 0.5, 0.99, 1.0]))
    reward, discount, last = (np.array([[s[i] for s in row] for row in rows]) for i in range(3))
    folded, factor, length = n_step(reward.astype(np.float32), discount, last, gamma)
    for row, *told in zip(rows, folded, factor, length, strict=True):
        total, f, k = 0.0, 1.0, 0
        for r, d, ended in row:
            total, f, k = total + f * r, f * gamma * d, k + 1
            if ended:
                break
        assert told == [pytest.approx(total, rel=1e-5, abs=1e-5), pytest.approx(f), k]


def returns_of(
    reward: list[float], discount: list[float], last: list[bool], next_value: list[float], gamma: float, decay: float
) -> list[float]:
    """Lambda returns of one environment."""
    columns = (np.array(values)[:, None] for values in (reward, discount, last, next_value))
    told = lambda_returns(*columns, gamma=gamma, trace_decay=decay)
    assert (told.shape, told.dtype) == ((len(reward), 1), np.float32)
    return told[:, 0].tolist()


@pytest.mark.parametrize(
    ("discount", "last", "expected"),
    [
        # G2 = 4 + 30 / 2, G1 = 2 + (20 / 2 + 19 / 2) / 2, G0 = 1 + (10 / 2 + 11.75 / 2) / 2
        ([1, 1, 1], [False, False, False], [6.4375, 11.75, 19.0]),
        ([1, 1, 1], [False, True, False], [6.5, 12.0, 19.0]),  # truncated: the whole weight on what it led to
        ([1, 0, 1], [False, True, False], [4.0, 2.0, 19.0]),  # terminated
        ([1, 0, 1], [False, False, False], [4.0, 2.0, 19.0]),  # a life lost: the same, though the game goes on
        ([1, 1, 0], [False, False, True], [5.5, 8.0, 4.0]),
    ],
)
def test_lambda_returns_by_hand(discount: list[float], last: list[bool], expected: list[float]) -> None:
    assert returns_of([1, 2, 4], discount, last, [10, 20, 30], 0.5, 0.5) == pytest.approx(expected)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_lambda_returns_are_the_weighted_n_step_returns(data: st.DataObject) -> None:
    step = st.tuples(st.integers(-9, 9), st.integers(0, 1), st.booleans(), st.integers(-9, 9))
    steps = data.draw(st.lists(step, min_size=1, max_size=6))
    gamma, decay = data.draw(st.sampled_from([0.0, 0.5, 0.99, 1.0])), data.draw(st.sampled_from([0.0, 0.65, 1.0]))
    reward, discount, last, value = (list(column) for column in zip(*steps, strict=True))
    expected = []
    for t in range(len(steps)):
        n_steps, total, factor = [], 0.0, 1.0
        for r, d, ended, v in steps[t:]:
            total, factor = total + factor * r, factor * gamma * d
            n_steps.append(total + factor * v)
            if ended:
                break
        weights = [(1 - decay) * decay**n for n in range(len(n_steps) - 1)]
        weights.append(decay ** (len(n_steps) - 1))
        expected.append(sum(w * g for w, g in zip(weights, n_steps, strict=True)))
    assert returns_of(reward, discount, last, value, gamma, decay) == pytest.approx(expected, rel=1e-5, abs=1e-4)
