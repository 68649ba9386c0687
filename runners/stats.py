"""Means, interquartile means, and how sure a mean is of few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qladder.envs.seeding import generator

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats
Interval = tuple[float | None, float | None]
"""Lower and upper end; both None where one value alone cannot say how sure it is."""

FEW = 5
"""Up to this many seeds the means are compared by Student's t; so few have no middle half to speak of."""
SMALL = 30  # a percentile bootstrap of 10 normal values covers 90 % instead of 95 %, of 30 values 94 %
"""Up to this many values the t interval is taken; a bootstrap of so few resamples the same handful of means."""


def iqm(x: Values) -> float:
    """The interquartile mean: the mean of the middle half of the values (Agarwal et al. 2021, arXiv 2108.13264).

    A quarter of the weight is cut off at each end. Where n is a multiple of 4 whole values are cut, as
    `scipy.stats.trim_mean(x, 0.25)` does; otherwise the value at the cut counts with the fraction that lies inside,
    where scipy rounds the cut down and so keeps more than half.
    """
    return float(iqm_rows(_values(x)[None])[0])


def middle(x: Values) -> float:
    """What verdicts go by: the interquartile mean, of five values or fewer the mean."""
    return float(np.mean(x)) if len(x) <= FEW else iqm(x)


def iqm_rows(x: Floats) -> Floats:
    """The interquartile mean of each row of `[R, M]`; where the middle half is one value, exactly that."""
    n = x.shape[1]
    left = np.arange(n)
    weight = np.clip(np.minimum(left + 1, 0.75 * n) - np.maximum(left, 0.25 * n), 0, None)
    ordered = np.sort(x, axis=1)
    middle = ordered[:, n // 2, None]
    means: Floats = middle[:, 0] + (ordered - middle) @ (weight / weight.sum())
    return means


def mean_interval(
    x: Values, level: float = 0.95, rng: np.random.Generator | None = None, resamples: int = 10_000
) -> Interval:
    """The interval of the mean: Student's t for n <= 30, a percentile bootstrap beyond; (None, None) for n = 1.

    The t interval is exact for normal values. Without `rng` the bootstrap draws from a fixed stream, so that equal
    values have equal intervals.
    """
    values = _values(x)
    n = values.size
    if n <= SMALL:
        return student_mean(values).interval(level)
    return _percentiles(_resampled_means(values, rng or generator(0, "bootstrap"), resamples), level)


@dataclass(frozen=True)
class Student:
    """An estimate whose error over its standard error has Student's t distribution."""

    value: float
    standard_error: float
    df: float

    def interval(self, level: float = 0.95) -> Interval:
        """Both ends None without degrees of freedom: one value alone cannot say how sure it is."""
        if self.df < 1:
            return None, None
        margin = self.standard_error * t_quantile(level, self.df)
        return self.value - margin, self.value + margin


def student_mean(x: Values) -> Student:
    """The mean; exact for normal values."""
    values = _values(x)
    n = values.size
    return Student(_mean(values), math.sqrt(_variance(values) / n) if n > 1 else 0.0, n - 1)


def welch(a: Values, b: Values) -> Student:
    """mean(a) - mean(b) of independent values whose spreads may differ (Welch 1947)."""
    a, b = _values(a), _values(b)
    delta = _mean(a) - _mean(b)
    if min(a.size, b.size) == 1:
        return Student(delta, 0.0, 0)
    square_a, square_b = _variance(a) / a.size, _variance(b) / b.size
    square = square_a + square_b
    if square == 0:
        return Student(delta, 0.0, a.size + b.size - 2)
    share_a, share_b = square_a / square, square_b / square
    df = 1 / (share_a**2 / (a.size - 1) + share_b**2 / (b.size - 1))
    return Student(delta, math.sqrt(square), df)


@lru_cache(maxsize=10_000)
def t_quantile(level: float, df: float) -> float:
    """The t with P(|T| <= t) = `level` for Student's T with `df` >= 1 degrees of freedom, to about ten digits.

    With t = sqrt(df) tan(angle) the probability is an integral of cos(angle)**(df - 1), which Gauss-Legendre quadrature
    takes to machine precision; the quantile is then bisected below that of one degree of freedom, which bounds it.
    """
    low, high = 0.0, math.tan(math.pi * level / 2) * (1 + 1e-12)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, df) < level else (low, middle)
    return (low + high) / 2


def t_probability(t: float, df: float) -> float:
    """P(|T| <= t) for Student's T with `df` >= 1 degrees of freedom and t >= 0."""
    nodes, weights = _quadrature()
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(math.pi)
    half = math.atan(t / math.sqrt(df)) / 2
    return float(2 * math.exp(log_scale) * half * (weights @ np.cos(half * (nodes + 1)) ** (df - 1)))


@lru_cache
def _quadrature() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(128)


def _values(x: Values) -> Floats:
    values = np.asarray(x, dtype=np.float64).ravel()
    if values.size == 0:
        raise ValueError("no values")
    return values


def _mean(x: Floats) -> float:
    """Shifted by the first value, so that equal values have exactly that mean, and a difference of exactly zero."""
    return float(x[0] + np.mean(x - x[0]))


def _variance(x: Floats) -> float:
    return float(np.var(x - x[0], ddof=1))


def _percentiles(means: Floats, level: float) -> Interval:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(x: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """Means of `resamples` draws with replacement `[resamples]`, about a million values at a time."""
    rows = max(1, 1_000_000 // x.size)
    counts = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    shifted = x - x[0]
    return x[0] + np.concatenate([shifted[rng.integers(x.size, size=(k, x.size))].mean(axis=1) for k in counts])
