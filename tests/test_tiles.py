"""Tile coding against hand-worked numbers and a naive reading of Sutton and Barto's scheme."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qladder.envs.errors import UserError
from qladder.envs.tiles import IndexTable, TileCoder, displacements

Tile = tuple[int, ...]


def naive_tiles(x: NDArray[np.float64], tilings: int) -> list[Tile]:
    """(tiling, coordinates) of each active tile; `x` is measured in tiles from the low corner."""
    return [
        (k, *(math.floor((math.floor(v * tilings) + k * (2 * d + 1)) / tilings) for d, v in enumerate(x)))
        for k in range(tilings)
    ]


@st.composite
def coders_and_points(draw: st.DrawFn) -> tuple[list[int], int, NDArray[np.float64]]:
    """Tiles per dimension, tilings, and points `[P, D]` measured in tiles, none of them on an edge."""
    tiles = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    tilings = draw(st.integers(1, 16))
    cell = st.tuples(*(st.integers(0, n * tilings - 1) for n in tiles))
    cells = draw(st.lists(cell, min_size=2, max_size=12))
    return tiles, tilings, (np.array(cells) + 0.5) / tilings


def unit_coder(tiles: list[int], tilings: int, size: int | None = None) -> TileCoder:
    """Tiles of width 1, so that observations are measured in tiles."""
    return TileCoder([0.0] * len(tiles), [float(n) for n in tiles], tiles, tilings, size)


def test_displacements_are_odd_multiples() -> None:
    assert displacements(4, 3).tolist() == [[0, 0, 0], [1, 3, 5], [2, 6, 10], [3, 9, 15]]


def test_hand_worked() -> None:
    # x = (0.3, 1.6): floor(4x) = (1, 6). Displacements modulo 4: (0, 0), (1, 3), (2, 2), (3, 1).
    # Coordinates: (0, 1), (0, 2), (0, 2), (1, 1); 3 x 3 tiles in each tiling.
    coder = unit_coder([2, 2], 4)
    assert coder.num_features == 36
    assert coder(np.array([0.3, 1.6])) == [0 + 1, 9 + 2, 18 + 2, 27 + 3 + 1]


def test_scales_the_bounds() -> None:
    coder = TileCoder((-1.0, 10.0), (1.0, 30.0), 2, 4)
    assert coder(np.array([-0.7, 26.0], np.float32)) == [1, 11, 20, 31]  # (0.3, 1.6) tiles from the corner


def test_each_dimension_has_its_own_tiles() -> None:
    # 1 tiling, 2 x 3 tiles, extent 3 x 4: (1.5, 2.5) is in row 1, column 2.
    coder = unit_coder([2, 3], 1)
    assert coder.num_features == 12
    assert coder(np.array([1.5, 2.5])) == [1 * 4 + 2]


def test_outside_clips() -> None:
    coder = unit_coder([3, 3], 8)
    assert coder(np.array([-5.0, np.inf])) == coder(np.array([0.0, 3.0])) == coder(np.array([0.1, 2.99]))


@given(coders_and_points())
@settings(deadline=None, max_examples=100)
def test_one_tile_in_each_tiling_cut_where_the_naive_scheme_cuts(
    case: tuple[list[int], int, NDArray[np.float64]],
) -> None:
    tiles, tilings, points = case
    coder = unit_coder(tiles, tilings)
    per_tiling = math.prod(n + 1 for n in tiles)
    assert coder.num_features == tilings * per_tiling
    tile_of: dict[int, Tile] = {}
    index_of: dict[Tile, int] = {}
    for x in points:
        active = coder(x)
        assert [i // per_tiling for i in active] == list(range(tilings))
        for i, tile in zip(active, naive_tiles(x, tilings), strict=True):
            assert tile_of.setdefault(i, tile) == tile
            assert index_of.setdefault(tile, i) == i


@given(coders_and_points())
@settings(deadline=None, max_examples=100)
def test_a_tile_apart_shares_nothing(case: tuple[list[int], int, NDArray[np.float64]]) -> None:
    tiles, tilings, points = case
    coder = unit_coder(tiles, tilings)
    first = set(coder(points[0]))
    for x in points[1:]:
        if np.abs(x - points[0]).max() >= 1:
            assert first.isdisjoint(coder(x))


@pytest.mark.parametrize("tilings", [8, 16])
@pytest.mark.parametrize("dimension", [0, 1, 2, 3])
def test_generalisation_falls_linearly_within_a_tile(tilings: int, dimension: int) -> None:
    coder = unit_coder([4] * 4, tilings)
    x = (np.array([9, 17, 14, 11]) + 0.5) / tilings
    here = set(coder(x))
    for cells in range(tilings + 1):
        moved = x.copy()
        moved[dimension] += cells / tilings
        assert len(here & set(coder(moved))) == tilings - cells


def test_displacement_is_asymmetric() -> None:
    # Tilings displaced along the diagonal would change together: one step up and right would cost one tile, not two.
    coder = unit_coder([4, 4], 8)
    shared = [len(set(coder(np.full(2, x + 0.01))) & set(coder(np.full(2, x + 0.135)))) for x in (1.125, 1.25, 1.5)]
    assert shared == [6, 6, 6]


def test_table_numbers_in_order_of_first_sight() -> None:
    table = IndexTable(4)
    assert table([70, 20]) == [0, 1]
    assert table([20, 90, 70]) == [1, 2, 0]
    assert len(table) == 3


def test_table_shares_numbers_only_when_full() -> None:
    table = IndexTable(100)
    own = table(range(0, 700, 7))
    assert own == list(range(100))
    assert len(table) == 100
    strangers = table(range(10**9, 10**9 + 10_000, 5))
    assert len(table) == 100
    assert table(range(10**9, 10**9 + 10_000, 5)) == strangers
    assert table(range(10**9, 10**9 + 10_000, 5), assign=False) == strangers
    assert table(range(0, 700, 7)) == own


@pytest.mark.parametrize("stride", [1, 8, 9, 64, 6561, 2**40])
def test_hash_spreads_evenly(stride: int) -> None:
    table = IndexTable(64)
    table(range(2**62, 2**62 + 64))
    counts = np.bincount(table(range(0, 6400 * stride, stride)), minlength=64)
    assert counts.shape == (64,)
    assert counts.min() > 50
    assert counts.max() < 200


def test_reading_assigns_nothing() -> None:
    table = IndexTable(10)
    table([5, 6])
    assert table([6, 7, 8], assign=False) == [1, 2, 2]  # 2: the next free number
    assert len(table) == 2
    assert table([8, 7]) == [2, 3]


@given(coders_and_points())
@settings(deadline=None, max_examples=100)
def test_hashed_coder_renames_dense_tiles(case: tuple[list[int], int, NDArray[np.float64]]) -> None:
    tiles, tilings, points = case
    dense = unit_coder(tiles, tilings)
    size = dense.num_features - 1  # one tile too few for dense numbering
    coder = unit_coder(tiles, tilings, size)
    met: dict[int, int] = {}
    for x in points:
        keys, active = dense(x), coder(x)
        assert all(0 <= i < size for i in active)
        for key, i in zip(keys, active, strict=True):
            if key in met or len(met) < size:
                assert met.setdefault(key, len(met)) == i
    assert coder.table is not None
    assert len(coder.table) == len(met)


def test_dense_where_it_fits() -> None:
    assert unit_coder([2, 2], 4, size=36).table is None
    assert unit_coder([2, 2], 4, size=36).num_features == 36
    assert unit_coder([2, 2], 4, size=1000).num_features == 36
    hashed = unit_coder([2, 2], 4, size=35)
    assert hashed.num_features == 35
    assert hashed(np.array([0.3, 1.6])) == [0, 1, 2, 3]
    assert hashed(np.array([0.3, 0.1]), assign=False)[0] == 4


def test_goes_on_from_its_state() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 4, (60, 3))
    whole, half, resumed = (unit_coder([4, 4, 4], 8, size=150) for _ in range(3))
    expected = [whole(x) for x in points]
    assert [half(x) for x in points[:5]] == expected[:5]
    state = half.state_dict()
    assert state["keys"].dtype == np.int64
    assert 0 < len(state["keys"]) < 150
    resumed.load_state_dict(state)
    assert [resumed(x) for x in points[5:]] == expected[5:]
    np.testing.assert_array_equal(resumed.state_dict()["keys"], whole.state_dict()["keys"])


def test_dense_coder_has_no_state() -> None:
    coder = unit_coder([2], 4)
    assert coder.state_dict() == {}
    coder.load_state_dict({})


def test_state_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="size: the table has 5 but the saved one 4"):
        IndexTable(5).load_state_dict(IndexTable(4).state_dict())


def test_bad_input_is_named() -> None:
    for arguments, message in (
        (((0.0,), (1.0,), 8, 0), "tilings: 0 is not allowed"),
        (((0.0,), (1.0,), 0, 8), "tiles: 0 is not allowed"),
        (((0.0, 0.0), (1.0, 1.0), (8, 8, 8), 8), "tiles: 3 numbers"),
        (((0.0,), (np.inf,), 8, 8), "dimension 0"),
        (((0.0,), (1.0,), 8, 8, 0), "size: 0 is not allowed"),
        (((0.0,) * 20, (1.0,) * 20, 9, 8, 1000), "tiles: 8 tilings"),
    ):
        with pytest.raises(UserError, match=message):
            TileCoder(*arguments)
