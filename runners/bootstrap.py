"""Intervals by drawing seeds again within tasks, wide enough for few of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.stats import Floats, Interval, t_quantile

RESAMPLES = 10_000
COUNTED = 25  # draws that must lie beyond a percentile for it to be told from them

Statistic = Callable[[Floats], Floats]
"""From rows `[R, M]` of values, pooled over tasks, to one number each `[R]`."""


class Resampled:
    """A statistic of some seeds, and what it would have been with others: `draws [R]`.

    A percentile interval of few values is too narrow. Its ends are moved outwards to where Student's t has the level
    that the normal distribution has at the percentiles (Hesterberg 2014, arXiv 1411.5279, section 5.3). With ten values
    an interval of 95 % is from the 1.2th to the 98.8th percentile. Where the percentiles are so far out that too few
    draws lie beyond, as with corrections for many comparisons, the interval holds Student's t interval as well.
    `benchmarks/intervals.py` counts what is covered.
    """

    def __init__(self, value: float, draws: Floats, df: int, wider: float = 1.0) -> None:
        self.value, self.df = value, df
        self.wider = wider  # by how much the standard error is larger than the spread of the draws
        self.draws = draws

    @property
    def standard_error(self) -> float:
        """The spread of the draws, made up for few seeds."""
        return float(self.draws.std()) * self.wider

    def interval(self, level: float = 0.95) -> Interval:
        """Both None where there are no degrees of freedom: one seed of a task says nothing of others."""
        if self.df < 1:
            return None, None
        t = t_quantile(level, self.df)
        tail = math.erfc(t / math.sqrt(2)) / 2
        low, high = np.quantile(self.draws, [tail, 1 - tail])
        if tail * len(self.draws) < COUNTED:
            margin = t * self.standard_error
            low, high = min(low, self.value - margin), max(high, self.value + margin)
        return float(low), float(high)

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference of two; pairs where both were drawn from one stream, else independent."""
        df = min(self.df, other.df) and self.df + other.df
        return Resampled(self.value - other.value, self.draws - other.draws, df, max(self.wider, other.wider))


def resampled(
    tasks: Sequence[Floats],
    statistic: Statistic,
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
) -> Resampled:
    """`statistic` of all tasks' values, `[n]` for n seeds, drawn with replacement within each task.

    (Stratified bootstrap, Agarwal et al. 2021.) The draws of n values spread by the root of (n - 1) / n too little. Of
    one task Student's t makes up for it; of several, whose degrees of freedom add up, they are stretched (Hesterberg
    2014). Without `rng` the draws are from a fixed stream, so that equal values have equal intervals.
    """
    rng = rng or generator(0, "bootstrap")
    drawn = [task[rng.integers(len(task), size=(resamples, len(task)))] for task in tasks]
    value = float(statistic(np.concatenate(tasks)[None])[0])
    fewest = min(map(len, tasks))
    draws = statistic(np.concatenate(drawn, axis=1))
    if fewest == 1:
        return Resampled(value, draws, 0)
    df = sum(len(task) - 1 for task in tasks)
    if len(tasks) == 1:
        return Resampled(value, draws, df, stretch(fewest))
    return Resampled(value, value + (draws - value) * stretch(fewest), df)


def stretch(n: int) -> float:
    """By how much the spread of `n` values is larger than that of draws from them."""
    return math.sqrt(n / (n - 1))
