"""Which of two agents is better, how sure, and how many more seeds would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, Protocol

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.bootstrap import Resampled, resampled, stretch
from qladder.runners.permutation import permutation_test
from qladder.runners.stats import (
    FEW,
    Floats,
    Interval,
    Student,
    iqm_rows,
    student_mean,
    t_quantile,
    welch,
)

Verdict = Literal["better", "worse", "equivalent", "undecided"]

ERROR = 0.05
"""How probable a single wrong verdict may be among all of a report."""
MOST = 10_000  # seeds that a plan tells of
AHEAD = 7
"""Times as many seeds as there are, with which a plan looks at what an interquartile mean will spread by.

Seeds that succeed or fail like a coin are all trimmed away but for those of one kind, or are not, by the luck of ten;
with more there is less luck in it. `benchmarks/intervals.py` counts what plans are worth.
"""
DRAWS = 1_500
ROUNDING = 1e-9  # of the largest score: what is less is no difference


class Estimate(Protocol):
    """A number and how sure it is."""

    @property
    def value(self) -> float: ...
    @property
    def standard_error(self) -> float: ...
    @property
    def df(self) -> float: ...
    def interval(self, level: float = 0.95) -> Interval: ...


@dataclass(frozen=True)
class Contrast:
    """Agent a minus agent b."""

    difference: Estimate
    statistic: Literal["IQM", "mean"]
    paired: bool  # by seed
    improvement: float  # the share of all pairs of a seed of a with one of b where a is better; ties count half
    difference_of_means: float
    effect: float | None  # the difference over the spread of seeds within an agent; None where there is none
    seeds: int  # of the agent that has fewer
    spread: float  # of the difference, with one seed of each, as a plan sees it


@dataclass(frozen=True, eq=False)
class Guarded:
    """The difference of two agents' interquartile means; its interval is drawn out to zero while chance may explain it.

    Seeds that succeed or fail like a coin have few distinct means, of which percentiles make too much.
    """

    estimate: Resampled
    a: Floats
    b: Floats
    paired: bool

    @property
    def value(self) -> float:
        return self.estimate.value

    @property
    def standard_error(self) -> float:
        return self.estimate.standard_error

    @property
    def df(self) -> float:
        return self.estimate.df

    @cached_property
    def by_chance(self) -> float:
        """The p value of a permutation test."""
        return permutation_test(self.a, self.b, paired=self.paired)

    def interval(self, level: float = 0.95) -> Interval:
        low, high = self.estimate.interval(level)
        if low is None or high is None or low <= 0 <= high or self.by_chance <= 1 - level:
            return low, high
        return min(low, 0.0), max(high, 0.0)


@dataclass(frozen=True)
class Alike:
    """No difference in any of so many seeds, which is known to be none only where chance would hardly have it so.

    A quarter of seeds and more must be another for an interquartile mean to be; that so many show none of these has a
    chance of `(3 / 4) ** seeds`.
    """

    seeds: int
    df: float
    value: float = 0.0
    standard_error: float = 0.0

    def interval(self, level: float = 0.95) -> Interval:
        return (0.0, 0.0) if self.seeds >= self.enough(level) else (None, None)

    @staticmethod
    def enough(level: float) -> int:
        """So many seeds have an interval at this level."""
        return math.ceil(math.log(1 - level) / math.log(0.75))


def contrast(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Contrast:
    """Compares the scores of two agents on a task; those of `paired` ones come from the same seeds in the same order.

    The difference of interquartile means with a bootstrap over seeds (Agarwal et al. 2021), pairs drawn together, and
    a permutation test; where an agent has at most five seeds, of means with Student's t.
    """
    x, y = np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)
    seeds = min(len(x), len(y))
    difference: Estimate
    if seeds <= FEW:
        difference = student_mean(x - y) if paired else welch(x, y)
        spread = float(np.std(x - y, ddof=1)) if paired and seeds > 1 else math.sqrt(_variance(x) + _variance(y))
    else:
        one, other = _iqm(tuple(a), "bootstrap"), _iqm(tuple(b), "bootstrap" if paired else "bootstrap of the other")
        apart = one - other
        guarded = Resampled(apart.value, apart.draws, seeds - 1, stretch(seeds)) if paired else apart
        difference = Guarded(guarded, x, y, paired)
        spread = _spread_ahead(tuple(a), tuple(b), paired)
    within = math.sqrt((_variance(x) + _variance(y)) / 2)
    scale = float(np.abs(np.concatenate([x, y])).max())
    constant = max(np.ptp(x), np.ptp(y)) <= ROUNDING * scale
    return Contrast(
        difference=certain(difference, seeds, scale, both=bool(constant)),
        statistic="mean" if seeds <= FEW else "IQM",
        paired=paired,
        improvement=improvement(x, y),
        difference_of_means=float(x.mean() - y.mean()),
        effect=difference.value / within if within and seeds > 1 else None,
        seeds=seeds,
        spread=spread,
    )


def _spread_ahead(a: tuple[float, ...], b: tuple[float, ...], paired: bool) -> float:
    """Of the difference of two interquartile means with many seeds, times the root of their number."""
    if paired:
        apart = _iqms_ahead(a, "ahead") - _iqms_ahead(b, "ahead")
        return float(apart.std()) * math.sqrt(AHEAD * len(a)) * stretch(len(a))
    each = [
        float(_iqms_ahead(values, stream).std()) * math.sqrt(AHEAD * len(values)) * stretch(len(values))
        for values, stream in ((a, "ahead"), (b, "ahead of the other"))
    ]
    return math.hypot(*each)


@lru_cache(maxsize=512)
def _iqms_ahead(values: tuple[float, ...], stream: str) -> Floats:
    seeds = generator(0, stream).integers(len(values), size=(DRAWS, AHEAD * len(values)))
    return iqm_rows(np.array(values)[seeds])


@lru_cache(maxsize=512)
def _iqm(values: tuple[float, ...], stream: str) -> Resampled:
    """Drawn once for all the pairs that an agent is in."""
    return resampled([np.array(values)], iqm_rows, generator(0, stream))


def certain(difference: Estimate, seeds: int, scale: float, *, both: bool = False) -> Estimate:
    """Rounding is no difference, and seeds that are all alike are not beyond doubt.

    Each may have been one of two values that either could have been: so many alike by chance have a probability of
    `2 ** (1 - seeds)` at worst, and where `both` of two agents' seeds are alike, each apart from the other's, of
    `2 ** (1 - 2 * seeds)`. The interval is Student's with that p value; that of no difference is `Alike`'s.
    """
    nothing = ROUNDING * scale
    if difference.standard_error > nothing or difference.df < 1:
        return difference
    if abs(difference.value) <= nothing:
        return Alike(seeds, difference.df)
    t = t_quantile(1 - 2.0 ** (1 - min(2 * seeds if both else seeds, 40)), difference.df)
    return Student(difference.value, abs(difference.value) / t, difference.df)


def improvement(a: Floats, b: Floats) -> float:
    """The Mann-Whitney statistic over the number of pairs: how often a value of `a` beats one of `b`, ties half."""
    return float((np.sign(a[:, None] - b).mean() + 1) / 2)


def verdict(difference: Estimate, delta: float, level: float = 0.95) -> Verdict:
    """Of a against b, where differences of less than `delta` do not matter.

    `equivalent` where the whole interval is within them (two one-sided tests, Schuirmann 1987), else `better` or
    `worse` where it is on one side of zero, else `undecided`.
    """
    low, high = difference.interval(level)
    if low is None or high is None:
        return "undecided"
    if -delta < low and high < delta:
        return "equivalent"
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def corrected(
    differences: Sequence[Estimate], delta: float, error: float = ERROR, *, of: int | None = None
) -> list[Verdict]:
    """Verdicts of which, with this probability or less, a single one is wrong (Holm 1979).

    Differences are judged from the surest on, each at the level that Holm leaves it, until one is not sure. What is
    equivalent is judged at Bonferroni's level. `of`: how many there will be, where some are still to come.
    """
    number = len(differences) if of is None else of
    found: list[Verdict] = ["undecided"] * len(differences)
    for i, difference in enumerate(differences):
        if verdict(difference, delta, 1 - error / number) == "equivalent":
            found[i] = "equivalent"
    sure = [i for i in range(len(differences)) if verdict(differences[i], 0.0, 1 - error) != "undecided"]
    for rank, i in enumerate(sorted(sure, key=lambda i: chance(differences[i]))):
        judged = verdict(differences[i], 0.0, 1 - error / (number - rank))
        if judged == "undecided":
            break
        if found[i] != "equivalent":
            found[i] = judged
    return found


def chance(difference: Estimate) -> float:
    """How probable a difference of this size or more is where there is none: the p value.

    One minus the level of the widest interval without zero (to twelve digits), so that what is ordered by it is in the
    order of how long it stays sure.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        level = (low + high) / 2
        low, high = (low, level) if verdict(difference, 0.0, level) == "undecided" else (level, high)
    return 1 - low


def seeds_needed(found: Contrast, size: float, power: float = 0.8, level: float = 0.95) -> int | None:
    """How many seeds each agent needs for a true difference of `size` to be found so often.

    Where seeds spread as they did so far. For means by the textbook, as if the spread were known (Cohen 1988); for
    interquartile means with Student's t of the seeds that it is known from. None for more than ten thousand, or where
    nothing is known of it.
    """
    if found.difference.df < 1 or not size:
        return None
    if isinstance(found.difference, Alike):
        return Alike.enough(level)
    few, many = max(2, found.seeds), MOST

    def enough(seeds: int) -> bool:
        df = found.difference.df if found.statistic == "IQM" else (seeds - 1) * (1 if found.paired else 2)
        return abs(size) * math.sqrt(seeds) >= found.spread * (t_quantile(level, df) + t_quantile(2 * power - 1, df))

    if not enough(many):
        return None
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle + 1, many)
    return few


def _variance(x: Floats) -> float:
    return float(np.var(x, ddof=1)) if len(x) > 1 else 0.0
