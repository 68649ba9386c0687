"""Tile coding: a bounded observation becomes the few features that are 1, for linear agents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qladder.envs.bins import UniformBins, per_dimension
from qladder.envs.errors import UserError

GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio (Knuth's multiplicative hashing)
MOST = 5_000_000  # entries of the tables from cells to tiles, a second or two to fill


def displacements(tilings: int, dimensions: int) -> NDArray[np.int64]:
    """How far each tiling is shifted in each dimension, `[tilings, dimensions]` in widths of a tile / `tilings`.

    Tiling k is shifted by k times the vector (1, 3, 5, ...), the asymmetric displacement of Miller and Glanz (1996)
    that Sutton and Barto (2018, section 9.5.4) recommend. `tilings` is best a power of 2, at least 4 * `dimensions`.
    """
    return np.arange(tilings)[:, None] * (2 * np.arange(dimensions) + 1)


class IndexTable:
    """Numbers keys in the order in which they are first seen, up to `size`; later ones share numbers by a hash.

    Sutton's index hash table ("IHT"), for keys that are integers from 0 to 2**63 - 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise UserError(f"size: {size} is not allowed; must be at least 1")
        self.size = size
        self._index: dict[int, int] = {}

    def __len__(self) -> int:
        """How many keys have a number of their own; the table is full at `size`."""
        return len(self._index)

    def __call__(self, keys: Iterable[int], assign: bool = True) -> list[int]:
        """The numbers of `keys`.

        With `assign` False nothing is remembered: while the table is not full, all unseen keys are answered with
        the next free number, whose weight no update has touched yet.
        """
        get = self._index.get
        return [self._unseen(k, assign) if (i := get(k)) is None else i for k in keys]

    def _unseen(self, key: int, assign: bool) -> int:
        free = len(self._index)
        if free == self.size:
            return (key * GOLDEN % 2**64 * self.size) >> 64
        return self._index.setdefault(key, free) if assign else free

    def state_dict(self) -> dict[str, Any]:
        """`size`, and `keys`, int64, in the order of their numbers."""
        return {"size": self.size, "keys": np.fromiter(self._index, np.int64, len(self._index))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`.

        Raises:
            UserError: it was written by a table of another size.
        """
        if state["size"] != self.size:
            raise UserError(f"size: the table has {self.size} but the saved one {state['size']}; they must be equal")
        self._index = {int(k): i for i, k in enumerate(state["keys"])}


class TileCoder:
    """Lays `tilings` displaced grids over `[low, high]`, `tiles` tiles across each dimension; one in each is active.

    The scheme is Sutton and Barto's (tiles3): in tiling k the coordinate of x, measured in tiles, is
    `floor((floor(x * tilings) + displacement) / tilings)`. Displacements are taken modulo a whole tile, which cuts the
    space at the same places and bounds the coordinates: `tiles + 1` of them in each dimension.

    Where all `tilings * prod(tiles + 1)` tiles fit into `size` (always, if that is None), they are numbered densely,
    tiling by tiling and each in C order. Else an `IndexTable` of `size` numbers the tiles that are met.
    Values outside `[low, high]` clip to the edge. `num_features` is the length that weights need.

    Raises:
        UserError: bounds that are not finite or not in order, a number below 1, 2**63 tiles and more, or tables of more
            than `MOST` entries.
    """

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        tiles: int | Sequence[int],
        tilings: int,
        size: int | None = None,
    ) -> None:
        if tilings < 1:
            raise UserError(f"tilings: {tilings} is not allowed; must be at least 1")
        self.tiles = per_dimension("tiles", tiles, len(low))
        self.tilings = tilings
        self._cells = UniformBins(low, high, [n * tilings for n in self.tiles])  # no tile's edge is within a cell
        extent = [n + 1 for n in self.tiles]
        total = tilings * math.prod(extent)
        if total >= 2**63:
            raise UserError(f"tiles: {tilings} tilings of {list(self.tiles)} tiles are {total}; must be below 2**63")
        if (entries := sum(self.tiles) * tilings**2) > MOST:
            raise UserError(
                f"tiles: {tilings} tilings of {list(self.tiles)} tiles need {entries:,} entries; most {MOST:,}"
            )
        strides = [math.prod(extent[d + 1 :]) for d in range(len(extent))]
        shifts = displacements(tilings, len(extent)) % tilings
        # Row c of dimension d: what being in cell c adds to the key of each tiling's active tile.
        rows = [
            (np.arange(n * tilings)[:, None] + shifts[:, d]) // tilings * strides[d] for d, n in enumerate(self.tiles)
        ]
        rows[0] += np.arange(tilings) * math.prod(extent)
        self._rows = [[tuple(row) for row in of_dimension.tolist()] for of_dimension in rows]
        self.table = None if size is None or total <= size else IndexTable(size)
        self.num_features = total if self.table is None else self.table.size

    def __call__(self, obs: NDArray[Any], assign: bool = True) -> list[int]:
        """The active features of `obs`, a one-dimensional array: one index for each tiling, in their order.

        A list: for 8 to 16 tilings and few actions plain Python is fastest: a list of weights for each action,
        read by `sum(map(weights.__getitem__, active))` and learnt by `for i in active: weights[i] += delta`.

        With `assign` False no new tile is numbered (see `IndexTable`), so that acting greedily changes nothing.
        """
        rows = [row[c] for row, c in zip(self._rows, self._cells.digits(obs), strict=True)]
        keys: Iterable[int] = rows[0]
        for row in rows[1:]:
            keys = map(add, keys, row)
        return list(keys) if self.table is None else self.table(keys, assign)

    def state_dict(self) -> dict[str, Any]:
        """What was numbered so far (see `IndexTable`); empty where numbering is dense."""
        return {} if self.table is None else self.table.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict` of a coder made alike."""
        if self.table is not None:
            self.table.load_state_dict(state)
