"""The Fourier basis: a bounded observation becomes cosines of every frequency up to an order, for linear agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qladder.envs.bins import checked_bounds, per_dimension
from qladder.envs.errors import UserError

MOST_FEATURES = 100_000


class FourierBasis:
    """`cos(pi c . x)` for all integer vectors c from 0 to `order` in each dimension (Konidaris et al. 2011, eq. 5).

    x is the observation measured from 0 at `low` to 1 at `high`; values outside clip. `coefficients [F, D]` are the
    vectors c in C order, the constant first. `scale [F]` are their relative step sizes, 1 / |c| and 1 for the constant
    (section 3.4).

    Raises:
        UserError: bounds that are not finite or not in order, an order below 1, or too many features.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], order: int | Sequence[int]) -> None:
        bounds = np.array(checked_bounds(low, high))
        orders = per_dimension("order", order, len(low))
        self.num_features = math.prod(n + 1 for n in orders)
        if self.num_features > MOST_FEATURES:
            raise UserError(
                f"order: {list(orders)} makes {self.num_features:.3g} features; must be at most {MOST_FEATURES:,}"
            )
        self.coefficients = np.indices([n + 1 for n in orders]).reshape(len(orders), -1).T.astype(np.float64)
        norm = np.linalg.norm(self.coefficients, axis=1)
        self.scale = 1 / np.where(norm == 0, 1.0, norm)
        self._low, self._width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        self._angles = np.pi * self.coefficients

    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """The features `[F]` of `obs`, a one-dimensional array."""
        x = ((obs - self._low) / self._width).clip(0.0, 1.0)
        return np.cos(self._angles @ x)

    def constant(self, value: float) -> NDArray[np.float64]:
        """Weights `[F]` that give every observation this value."""
        weights = np.zeros(self.num_features)
        weights[0] = value
        return weights
