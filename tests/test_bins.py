"""Uniform bins against hand-worked numbers and numpy's own index arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qladder.envs.bins import UniformBins
from qladder.envs.errors import UserError


def test_hand_worked() -> None:
    bins = UniformBins((0.0, -2.0), (4.0, 2.0), (4, 8))
    assert bins.num_states == 32
    assert bins.digits(np.array([2.5, 0.2])) == [2, 4]
    assert bins(np.array([2.5, 0.2])) == 2 * 8 + 4
    assert bins(np.array([0.0, -2.0])) == 0
    assert bins(np.array([3.0, 1.5])) == 31  # a bin holds its lower edge
    assert bins(np.array([1.0, -0.5], np.float32)) == 1 * 8 + 3
    assert isinstance(bins(np.array([1.0, 1.0], np.float32)), int)


def test_one_number_stands_for_all_dimensions() -> None:
    assert UniformBins((0, 0, 0), (1, 1, 1), 3).bins == (3, 3, 3)


def test_outside_clips_to_the_edge_bins() -> None:
    bins = UniformBins((-1.0,), (1.0,), 5)
    for outside, state in ((-7.0, 0), (-np.inf, 0), (1.0, 4), (7.0, 4), (np.inf, 4), (3e38, 4)):
        assert bins(np.array([outside])) == state


def test_nan_is_not_a_state() -> None:
    with pytest.raises(ValueError, match="NaN"):
        UniformBins((-1.0,), (1.0,), 5)(np.array([np.nan]))


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_agrees_with_numpy(data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, 4))

    def each(elements: st.SearchStrategy[float]) -> list[float]:
        return data.draw(st.lists(elements, min_size=dimensions, max_size=dimensions))

    low = np.array(each(st.floats(-100, 100)))
    width = np.array(each(st.floats(0.01, 100)))
    counts = [int(n) for n in each(st.integers(1, 12))]
    digits = [data.draw(st.integers(0, n - 1)) for n in counts]
    within = np.array(each(st.floats(0.001, 0.999)))
    obs = low + width * (np.array(digits) + within) / np.array(counts)
    bins = UniformBins(tuple(low), tuple(low + width), counts)
    assert bins.digits(obs) == digits
    assert bins(obs) == np.ravel_multi_index(digits, counts)


@given(
    low=st.floats(-1e6, 1e6),
    width=st.floats(1e-3, 1e6),
    n=st.integers(1, 1000),
    part=st.floats(-0.5, 1.5),
    ulps=st.integers(-3, 3),
)
@settings(deadline=None, max_examples=200)
def test_no_rounding_leads_out_of_range(low: float, width: float, n: int, part: float, ulps: int) -> None:
    high = low + width
    bins = UniformBins((low,), (high,), n)
    for x in (low + width * part, high + ulps * np.spacing(high), low + width * round(part * n) / n):
        assert 0 <= bins(np.array([x])) < n


@pytest.mark.parametrize(
    ("low", "high", "bins", "message"),
    [
        ((0.0, -np.inf), (1.0, np.inf), 4, r"low, high: \[-inf, inf\] in dimension 1 .* finite"),
        ((0.0,), (np.nan,), 4, "dimension 0 .* finite"),
        ((1.0,), (1.0,), 4, r"\[1.0, 1.0\] in dimension 0 .* low below high"),
        ((2.0,), (1.0,), 4, "low below high"),
        ((0.0, 0.0), (1.0,), 4, "low, high: 2 and 1 numbers"),
        ((), (), 4, "low, high: 0 and 0 numbers"),
        ((0.0,), (1.0,), 0, "bins: 0 is not allowed; must be at least 1"),
        ((0.0, 0.0), (1.0, 1.0), (4, -2), "bins: -2 is not allowed"),
        ((0.0, 0.0), (1.0, 1.0), (4, 4, 4), r"bins: 3 numbers \[4, 4, 4\] for 2 dimensions"),
    ],
)
def test_what_cannot_be_cut(
    low: tuple[float, ...], high: tuple[float, ...], bins: int | tuple[int, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        UniformBins(low, high, bins)
