"""Random features: a bounded observation becomes cosines in random directions, for linear agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qladder.envs.bins import checked_bounds
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator

MOST_FEATURES = 100_000


class RandomCosines:
    """`sqrt(2) cos(w . x + b)` for `count` random w and b, and a constant (Rahimi and Recht 2007, algorithm 1).

    x is the observation measured from 0 at `low` to 1 at `high`; values outside clip. The w are normal with a standard
    deviation of `1 / kernel_width`, the b uniform over a turn: what two observations have in common is what a Gaussian
    of that width says of their distance. Both, `directions [count, D]` and `shifts [count]`, descend from `seed`.
    `scale [F]` are the features' relative step sizes, all 1; the constant comes first.

    Raises:
        UserError: bounds that are not finite or not in order, fewer than one feature, too many, or a width that is not
            positive.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], count: int, kernel_width: float, seed: int) -> None:
        bounds = np.array(checked_bounds(low, high))
        if not 1 <= count < MOST_FEATURES:
            raise UserError(f"count: {count} is not allowed; must be from 1 to {MOST_FEATURES - 1:,}")
        if not (kernel_width > 0 and math.isfinite(kernel_width)):
            raise UserError(f"kernel_width: {kernel_width} is not allowed; must be above 0")
        rng = generator(seed, "features")
        self.num_features = count + 1
        self.scale = np.ones(self.num_features)
        self._low, self._width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        self.directions = rng.normal(0.0, 1 / kernel_width, (count, len(bounds)))
        self.shifts = rng.uniform(0.0, 2 * np.pi, count)

    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """The features `[F]` of `obs`, a one-dimensional array."""
        x = ((obs - self._low) / self._width).clip(0.0, 1.0)
        features = np.ones(self.num_features)
        features[1:] = math.sqrt(2) * np.cos(self.directions @ x + self.shifts)
        return features

    def constant(self, value: float) -> NDArray[np.float64]:
        """Weights `[F]` that give every observation this value."""
        weights = np.zeros(self.num_features)
        weights[0] = value
        return weights
