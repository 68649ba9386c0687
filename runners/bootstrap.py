"""Intervals by drawing seeds again within tasks, wide enough for few of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.stats import Floats, Interval, t_quantile

RESAMPLES = 10_000

Statistic = Callable[[Floats], Floats]
"""From rows `[R, M]` of values, pooled over tasks, to one number each `[R]`."""


class Resampled:
    """A statistic of some seeds, and what it would have been with others: `draws [R]`.

    A percentile interval of few values is too narrow. Its ends are moved outwards to where Student's t has the level
    that the normal distribution has at the percentiles (Hesterberg 2014, arXiv 1411.5279, section 5.3, who also widens
    by the root of n / (n - 1); the interquartile mean of ten values is then covered too often). With ten values an
    interval of 95 % is from the 1.2th to the 98.8th percentile (`benchmarks/intervals.py` counts what is covered).
    """

    def __init__(self, value: float, draws: Floats, df: int) -> None:
        self.value, self.df = value, df
        self._draws = draws

    @property
    def standard_error(self) -> float:
        """The spread of the draws."""
        return float(self._draws.std())

    def interval(self, level: float = 0.95) -> Interval:
        """Both None where there are no degrees of freedom: one seed of each task says nothing of the others."""
        if self.df < 1:
            return None, None
        tail = math.erfc(t_quantile(level, self.df) / math.sqrt(2)) / 2
        low, high = np.quantile(self._draws, [tail, 1 - tail])
        return float(low), float(high)

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference of two that were drawn independently."""
        return Resampled(self.value - other.value, self._draws - other._draws, self.df + other.df)


def resampled(
    tasks: Sequence[Floats],
    statistic: Statistic,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
) -> Resampled:
    """`statistic` of all tasks' values, `[n]` for n seeds, drawn with replacement within each task.

    (Stratified bootstrap, Agarwal et al. 2021.) Values `[n, 2]` are pairs of one seed, drawn together; `statistic` then
    gets `[R, M, 2]`. Without `rng` the draws are from a fixed stream, so that equal values have equal intervals.
    """
    rng = rng or generator(0, "bootstrap")
    drawn = [task[rng.integers(len(task), size=(resamples, len(task)))] for task in tasks]
    value = float(statistic(np.concatenate(tasks)[None])[0])
    df = sum(len(task) - 1 for task in tasks)
    return Resampled(value, statistic(np.concatenate(drawn, axis=1)), df)
