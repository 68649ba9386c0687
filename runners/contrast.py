"""Which of two agents is better, how sure, and how many more seeds would tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.bootstrap import resampled
from qladder.runners.stats import (
    Floats,
    Interval,
    iqm_rows,
    student_mean,
    t_probability,
    t_quantile,
    welch,
)

Verdict = Literal["better", "worse", "equivalent", "undecided"]

FEW = 5
"""Up to this many seeds the means are compared by Student's t; so few have no middle half to speak of."""
MOST = 10_000  # seeds that a plan tells of


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


def contrast(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Contrast:
    """Compares the scores of two agents on a task; those of `paired` ones come from the same seeds in the same order.

    The difference of interquartile means with a bootstrap over seeds (Agarwal et al. 2021), pairs drawn together;
    where an agent has at most five seeds, of means with Student's t.
    """
    x, y = np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)
    few = min(len(x), len(y)) <= FEW
    difference: Estimate
    if few:
        difference = student_mean(x - y) if paired else welch(x, y)
    elif paired:
        difference = resampled([np.stack([x, y], axis=1)], lambda rows: iqm_rows(rows[..., 0]) - iqm_rows(rows[..., 1]))
    else:
        rng = generator(0, "bootstrap")
        difference = resampled([x], iqm_rows, rng) - resampled([y], iqm_rows, rng)
    spread = math.sqrt((_variance(x) + _variance(y)) / 2)
    return Contrast(
        difference=difference,
        statistic="mean" if few else "IQM",
        paired=paired,
        improvement=improvement(x, y),
        difference_of_means=float(x.mean() - y.mean()),
        effect=difference.value / spread if spread else None,
        seeds=min(len(x), len(y)),
    )


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


def corrected(differences: Sequence[Estimate], delta: float, error: float = 0.05) -> list[Verdict]:
    """Verdicts of which, with this probability or less, a single one is wrong (Holm 1979).

    Differences are judged from the surest on, each at the level that Holm leaves it, until one is not sure. What is
    equivalent is judged at Bonferroni's level.
    """
    number = len(differences)
    found: list[Verdict] = ["undecided"] * number
    for i, difference in enumerate(differences):
        if verdict(difference, delta, 1 - error / number) == "equivalent":
            found[i] = "equivalent"
    for rank, i in enumerate(sorted(range(number), key=lambda i: chance(differences[i]))):
        judged = verdict(differences[i], 0.0, 1 - error / (number - rank))
        if judged == "undecided":
            break
        if found[i] != "equivalent":
            found[i] = judged
    return found


def chance(difference: Estimate) -> float:
    """How probable a difference of this size or more is where there is none, by Student's t: the p value."""
    if difference.df < 1:
        return 1.0
    if difference.standard_error == 0:
        return 0.0 if difference.value else 1.0
    return 1 - t_probability(abs(difference.value) / difference.standard_error, difference.df)


def seeds_needed(found: Contrast, size: float, power: float = 0.8, level: float = 0.95) -> int | None:
    """How many seeds each agent needs for a true difference of `size` to be found so often.

    Where seeds spread as they did so far. None for more than ten thousand, or where nothing is known of their spread.
    """
    if found.difference.df < 1 or not size:
        return None
    spread = found.difference.standard_error * math.sqrt(found.seeds)
    few, many = max(2, found.seeds), MOST

    def enough(seeds: int) -> bool:
        df = (seeds - 1) * (1 if found.paired else 2)
        return abs(size) * math.sqrt(seeds) >= spread * (t_quantile(level, df) + t_quantile(2 * power - 1, df))

    if not enough(many):
        return None
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle + 1, many)
    return few


def _variance(x: Floats) -> float:
    return float(np.var(x, ddof=1)) if len(x) > 1 else 0.0
