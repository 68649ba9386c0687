"""Where the steps of N environments lie in one flat memory, and which of them may be sampled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


class Ring:
    """One ring of `slots` per environment, side by side; slot t of environment i has the flat index `i * slots + t`.

    An episode of T steps takes T + 1 slots: the last holds only the observation that the last step led to.
    """

    def __init__(self, num_envs: int, slots: int) -> None:
        self.slots = slots
        self.written = np.zeros(num_envs, np.int64)  # slots written so far, ever
        self._base = np.arange(num_envs, dtype=np.int64) * slots

    def advance(self, envs: NDArray[np.int64] | slice) -> Index:
        """The flat indices of the next slot of these environments, which are taken by this call."""
        index = self._base[envs] + self.written[envs] % self.slots
        self.written[envs] += 1
        return index

    def newest(self, envs: Index) -> Index:
        """The flat indices of the slots written last in these environments."""
        newest: Index = self._base[envs] + (self.written[envs] - 1) % self.slots
        return newest

    def shift(self, index: Index, by: Index) -> Index:
        """The slots `by` steps later (earlier where negative) in the same rings; shapes broadcast."""
        base = index - index % self.slots
        shifted: Index = base + (index - base + by) % self.slots
        return shifted

    def age(self, index: Index) -> Index:
        """How many slots of the same ring were written after this one."""
        age: Index = (self.written[index // self.slots] - 1 - index) % self.slots
        return age

    def span(self, history: int) -> tuple[Index, Index]:
        """Per environment, the first slot with `history` older ones intact (as `written` counts), and how many follow.

        The newest slot is not among them: what its step led to is not written yet.
        """
        oldest = np.maximum(self.written - self.slots, 0)
        first = np.where(oldest > 0, oldest + history, 0)
        return first, np.maximum(self.written - 1 - first, 0)

    def reachable(self, index: Index, history: int) -> NDArray[np.bool_]:
        """Whether these slots are in the spans that `span` tells."""
        _, count = self.span(history)
        env, age = index // self.slots, self.age(index)
        within: NDArray[np.bool_] = (age > 0) & (age <= count[env])
        return within

    def draw(self, n: int, history: int, rng: np.random.Generator) -> Index:
        """`n` slots, uniformly over the spans of all environments, flat; ValueError where they are empty."""
        first, count = self.span(history)
        ends = count.cumsum()
        if ends[-1] == 0:
            raise ValueError("the replay is empty: nothing can be sampled yet")
        flat = rng.integers(ends[-1], size=n)
        env = ends.searchsorted(flat, side="right")
        drawn: Index = self._base[env] + (flat + (first - ends + count)[env]) % self.slots
        return drawn


def chunks(written: Index, slots: int, size: int) -> Iterator[tuple[str, int, bool, tuple[int, int]]]:
    """Parts of at most `size` slots of one ring each, as far as `written`: name, version, settled, first slot and end.

    The version is how many slots of its ring had been written when it was changed last; a part has settled unless it is
    being filled. First slot and end are flat indices.
    """
    for env, count in enumerate(written.tolist()):
        laps, head = divmod(count, slots)  # the head is the next slot to be written
        for first in range(0, min(count, slots), size):
            end = min(first + size, slots)
            version = laps * slots + min(head, end) if head > first else (laps - 1) * slots + end
            place = env * slots + first, env * slots + (end if laps else min(head, end))
            yield f"{env}-{first // size}", version, not first < head < end, place
