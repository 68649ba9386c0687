"""Radial basis functions: a bounded observation becomes its nearness to the points of a grid, for linear agents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qladder.envs.bins import checked_bounds, per_dimension
from qladder.envs.errors import UserError

MOST_FEATURES = 100_000


class RadialBasis:
    """Gaussians around the points of a grid, each divided by the sum of all (Moody and Darken 1989).

    The grid has `centers` points in each dimension, from `low` to `high` (one: in the middle), and a Gaussian's
    standard deviation is `width` times their spacing. Features are in C order of the grid; values outside clip.
    `scale [F]` are their relative step sizes, all 1.

    Raises:
        UserError: bounds that are not finite or not in order, fewer than one centre, too many features, or a width
            that is not positive.
    """

    def __init__(
        self, low: Sequence[float], high: Sequence[float], centers: int | Sequence[int], width: float = 1.0
    ) -> None:
        bounds = checked_bounds(low, high)
        counts = per_dimension("centers", centers, len(low))
        self.num_features = math.prod(counts)
        if self.num_features > MOST_FEATURES:
            raise UserError(
                f"centers: {list(counts)} make {self.num_features:.3g} features; must be at most {MOST_FEATURES:,}"
            )
        if not (width > 0 and math.isfinite(width)):
            raise UserError(f"width: {width} is not allowed; must be above 0")
        self.scale = np.ones(self.num_features)
        grids = [np.arange(n) if n > 1 else np.array([0.5]) for n in counts]  # in spacings from `low`
        self._axes = [
            (lo, hi, max(n - 1, 1) / (hi - lo) / width, grid / width)
            for (lo, hi), n, grid in zip(bounds, counts, grids, strict=True)
        ]

    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """The features `[F]` of `obs`, a one-dimensional array; they add up to 1."""
        features = np.ones(1)  # Gaussians of several dimensions are products of those of each; so are their sums
        for x, (low, high, scale, grid) in zip(obs.tolist(), self._axes, strict=True):
            squared = ((min(max(x, low), high) - low) * scale - grid) ** 2
            near = np.exp((squared.min() - squared) / 2)  # no underflow of all, however narrow they are
            features = np.multiply.outer(features, near / near.sum()).ravel()
        return features

    def constant(self, value: float) -> NDArray[np.float64]:
        """Weights `[F]` that give every observation this value."""
        return np.full(self.num_features, value)
