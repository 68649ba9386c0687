"""Folded windows against hand-worked numbers and a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qladder.replay.returns import n_step, one_step, trace


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
