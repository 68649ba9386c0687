"""Drawing in proportion to priorities: a sum tree in float64, and proportional prioritisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qladder.envs.errors import DivergedError
from qladder.replay.ring import Index

BRANCHES = 64  # few levels: what a level costs is its calls, hardly its numbers
SMALLEST_ERROR = 1e-6  # so that nothing is never drawn again


class SumTree:
    """Numbers `[size]`, not negative, with the sum of every 64 above them, of every 64 of those above these, ..."""

    def __init__(self, size: int) -> None:
        self._levels: list[
            Any
        ] = []  # from the numbers to the topmost sums, each [rows, 64]; a row's sum is an entry one level up
        rows = size
        while not self._levels or rows > 1:
            rows = -(-rows // BRANCHES)
            self._levels.append(np.zeros((rows, BRANCHES)))
        self._flat = [level.reshape(-1) for level in self._levels]
        self.values = self._flat[0][:size]

    @property
    def total(self) -> float:
        return float(self._levels[-1].sum())

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self._levels)

    def set(self, index: Index, value: Any) -> None:
        """Puts `value` at `index [K]`; of an index named twice the last counts."""
        self._flat[0][index] = value
        for level, above in zip(self._levels, self._flat[1:], strict=False):
            index = index // BRANCHES
            above[index] = level[index].sum(1)

    def rebuild(self) -> None:
        """Sums anew, after `values` was written to."""
        for level, above in zip(self._levels, self._flat[1:], strict=False):
            above[: len(level)] = level.sum(1)

    def find(self, mass: Any) -> Index:
        """For each `mass [K]` in [0, total): the first index up to which the values sum to more."""
        node, left = np.zeros(len(mass), np.int64), np.array(mass, np.float64)[:, None]
        for level in reversed(self._levels):
            row = level[node]
            ends = row.cumsum(1)
            child = (ends <= left).sum(1)
            last = (ends < ends[:, -1:]).sum(1)  # beyond is nothing, where rounding must not lead to
            child = np.minimum(child, last)[:, None]
            left -= np.take_along_axis(ends, child, 1) - np.take_along_axis(row, child, 1)
            np.maximum(left, 0, out=left)  # rounding must not lead to the first either, where it is worth nothing
            node = node * BRANCHES + child[:, 0]
        return node


class Priorities:
    """Proportional prioritisation (Schaul et al. 2016): drawn with probability `error ** exponent`, normalised.

    What is new has the largest priority that there was so far.
    """

    def __init__(self, size: int, exponent: float, rng: np.random.Generator) -> None:
        self._tree, self._exponent, self._rng = SumTree(size), exponent, rng
        self._largest = 1.0

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes

    def enter(self, index: Index) -> None:
        """Slots that hold new transitions."""
        self._tree.set(index, self._largest)

    def leave(self, index: Index) -> None:
        """Slots that start no transition."""
        self._tree.set(index, 0.0)

    def draw(self, n: int) -> Index:
        """`n` slots, independently.

        Raises:
            ValueError: there is none.
        """
        if not self._tree.total > 0:
            raise ValueError("the replay is empty: nothing can be sampled yet")
        return self._tree.find(self._rng.random(n) * self._tree.total)

    def weights(self, index: Index, importance: float) -> Any:
        """Importance weights `P ** -importance`, the batch's largest 1: `[n]` float32 (Schaul et al. 2016, 3.4)."""
        priority = self._tree.values[index]
        return ((priority.min() / priority) ** importance).astype(np.float32)

    def update(self, index: Index, error: Any) -> None:
        """New errors `[n]`, not negative, of slots that were drawn.

        Raises:
            DivergedError: one is not finite.
        """
        priority = (np.asarray(error, np.float64) + SMALLEST_ERROR) ** self._exponent
        largest = float(priority.max())
        if not math.isfinite(largest):
            raise DivergedError(f"a priority of the replay is {largest}")
        self._largest = max(self._largest, largest)
        self._tree.set(index, priority)

    def state_dict(self, slots: Index) -> dict[str, Any]:
        """The priorities of these slots."""
        return {"priority": self._tree.values[slots], "largest_priority": self._largest}

    def load_state_dict(self, slots: Index, state: dict[str, Any]) -> None:
        self._tree.values[:] = 0
        self._tree.values[slots] = state["priority"]
        self._tree.rebuild()
        self._largest = state["largest_priority"]
