"""Uniform bins: a bounded observation of a few numbers becomes one state number, for tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from qladder.envs.errors import UserError


def per_dimension(name: str, value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    """One positive integer for each dimension; a single one stands for all.

    Raises:
        UserError: another number of them than `dimensions`, or one below 1.
    """
    values = (value,) * dimensions if isinstance(value, int) else tuple(value)
    if len(values) != dimensions:
        raise UserError(
            f"{name}: {len(values)} numbers {list(values)} for {dimensions} dimensions; give one, or one each"
        )
    if any(v < 1 for v in values):
        raise UserError(f"{name}: {min(values)} is not allowed; must be at least 1")
    return values


class UniformBins:
    """Cuts each dimension of `[low, high]` into `bins` equal parts; a value outside falls into the edge bin.

    A bin holds its lower edge. State numbers are in mixed radix, the last dimension varying fastest
    (numpy's C order), from 0 up to `num_states - 1`.

    Raises:
        UserError: `low` and `high` are not finite, not in order or of unequal length, or a number of bins is below 1.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], bins: int | Sequence[int]) -> None:
        bounds = checked_bounds(low, high)
        self.bins = per_dimension("bins", bins, len(low))
        self.num_states = math.prod(self.bins)
        # Whatever reaches the last bin's lower edge is in the last bin: no rounding can lead past it.
        self._cuts = [
            (lo, lo + (hi - lo) * ((n - 1) / n), n / (hi - lo), n - 1)
            for (lo, hi), n in zip(bounds, self.bins, strict=True)
        ]

    def digits(self, obs: NDArray[Any]) -> list[int]:
        """The bin of each dimension of `obs`, a one-dimensional array; infinities clip, NaN raises ValueError."""
        return [
            0 if x <= low else last if x >= edge else int((x - low) * scale)
            for x, (low, edge, scale, last) in zip(obs.tolist(), self._cuts, strict=True)
        ]

    def __call__(self, obs: NDArray[Any]) -> int:
        """The state number of `obs`."""
        state = 0
        for digit, bins in zip(self.digits(obs), self.bins, strict=True):
            state = state * bins + digit
        return state


def checked_bounds(low: Sequence[float], high: Sequence[float]) -> list[tuple[float, float]]:
    """(low, high) of each dimension; UserError unless they are finite, in order and as many."""
    if len(low) != len(high) or not len(low):
        raise UserError(f"low, high: {len(low)} and {len(high)} numbers; both need one for each dimension")
    bounds = [(float(lo), float(hi)) for lo, hi in zip(low, high, strict=True)]
    for d, (lo, hi) in enumerate(bounds):
        if lo >= hi or not math.isfinite(hi - lo):
            raise UserError(f"low, high: [{lo}, {hi}] in dimension {d} is not allowed; must be finite, low below high")
    return bounds
