"""Drawing in proportion to priorities: a sum tree in float64, and proportional prioritisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from qladder.replay.ring import Index

SMALLEST_ERROR = 1e-6  # so that nothing is never drawn again


class SumTree:
    """Numbers `[size]`, not negative, with the sums of all halves, quarters, ... above them."""

    def __init__(self, size: int) -> None:
        self._leaves = 1 << max(size - 1, 1).bit_length()
        self._tree = np.zeros(2 * self._leaves)  # node i has the children 2i and 2i + 1; leaves are the last half
        self.values = self._tree[self._leaves : self._leaves + size]

    @property
    def total(self) -> float:
        return float(self._tree[1])

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes

    def set(self, index: Index, value: Any) -> None:
        """Puts `value` at `index [K]`; of an index named twice the last counts."""
        node = index + self._leaves
        self._tree[node] = value
        while node[0] > 1:
            node = np.unique(node // 2)
            self._tree[node] = self._tree[2 * node] + self._tree[2 * node + 1]

    def rebuild(self) -> None:
        """Sums anew, after `values` was written to."""
        first = self._leaves // 2
        while first:
            children = self._tree[2 * first : 4 * first]
            self._tree[first : 2 * first] = children[::2] + children[1::2]
            first //= 2

    def find(self, mass: Any) -> Index:
        """For each `mass [K]` in [0, total): the first index up to which the values sum to more."""
        node, left = np.ones(len(mass), np.int64), np.array(mass, np.float64)
        while node[0] < self._leaves:
            node *= 2
            below = self._tree[node]
            right = (left >= below) & (self._tree[node + 1] > 0)  # rounding must not lead to where nothing is
            left -= np.where(right, below, 0)
            node += right
        return node - self._leaves


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
        """New errors `[n]`, not negative, of slots that were drawn."""
        priority = (np.asarray(error, np.float64) + SMALLEST_ERROR) ** self._exponent
        self._largest = max(self._largest, float(priority.max()))
        self._tree.set(index, priority)

    def state_dict(self, slots: Index) -> dict[str, Any]:
        """The priorities of these slots."""
        return {"priority": self._tree.values[slots], "largest_priority": self._largest}

    def load_state_dict(self, slots: Index, state: dict[str, Any]) -> None:
        self._tree.values[:] = 0
        self._tree.values[slots] = state["priority"]
        self._tree.rebuild()
        self._largest = state["largest_priority"]
