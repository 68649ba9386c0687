"""Agents over several tasks at once, by scores that are normalised: 0 is random play, 1 the mark of each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.bootstrap import RESAMPLES, Resampled, Statistic, resampled, stretch
from qladder.runners.stats import Floats, iqm_rows

FEWER = 2_000
"""Resamples of what is asked many times, for each pair or each point of a picture."""


@dataclass(frozen=True)
class Aggregate:
    """What Agarwal et al. (2021) report of an agent, each with its draws over seeds within tasks."""

    iqm: Resampled  # of all seeds of all tasks
    mean: Resampled  # of the tasks' means
    median: Resampled  # of the tasks' means
    optimality_gap: Resampled  # by how much seeds miss 1 on average; more than 1 makes up for nothing


def overall(tasks: Sequence[Floats], resamples: int = RESAMPLES) -> Aggregate:
    """Of normalised scores, for each task one for each seed `[n]`."""
    means = _of_tasks(tasks)

    def found(statistic: Statistic) -> Resampled:
        return resampled(tasks, statistic, generator(0, "bootstrap"), resamples)

    return Aggregate(
        iqm=found(iqm_rows),
        mean=found(lambda rows: means(rows).mean(axis=1)),
        median=found(lambda rows: np.median(means(rows), axis=1)),
        optimality_gap=found(lambda rows: 1 - np.minimum(rows, 1).mean(axis=1)),
    )


def enough(tasks: Sequence[Floats]) -> int:
    """Resamples for each point of a picture: of few seeds as many as for aggregates, so that their ends agree."""
    return RESAMPLES if sum(map(len, tasks)) <= 60 else FEWER


def profile(tasks: Sequence[Floats], marks: Floats) -> list[Resampled]:
    """The share of all seeds of all tasks that score more than each mark `[K]`, with its draws."""

    def above(mark: float) -> Statistic:
        return lambda rows: (rows > mark).mean(axis=1)

    return [resampled(tasks, above(mark), resamples=enough(tasks)) for mark in marks.tolist()]


def probability_of_improvement(a: Sequence[Floats], b: Sequence[Floats], resamples: int = FEWER) -> Resampled:
    """How often a seed of `a` beats one of `b` on the same task, ties half; the mean over tasks.

    (Mann-Whitney's U over the number of pairs.) Seeds of both are drawn again, independently.
    """
    rng = generator(0, "bootstrap")
    draws, value = np.zeros(resamples), 0.0
    for x, y in zip(a, b, strict=True):
        wins = (np.sign(x[:, None] - y) + 1) / 2
        value += float(wins.mean()) / len(a)
        at_once = max(1, 1_000_000 // wins.size)
        for start in range(0, resamples, at_once):
            count = min(at_once, resamples - start)
            rows, columns = (rng.integers(len(some), size=(count, len(some))) for some in (x, y))
            draws[start : start + count] += wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2)) / len(a)
    fewest = min(min(len(x), len(y)) for x, y in zip(a, b, strict=True))
    if fewest == 1:
        return Resampled(value, draws, 0)
    df = sum(len(x) + len(y) - 2 for x, y in zip(a, b, strict=True))
    return Resampled(value, value + (draws - value) * stretch(fewest), df)


def _of_tasks(tasks: Sequence[Floats]) -> Statistic:
    """From pooled rows `[R, M]` to the means `[R, T]` of the tasks."""
    places = list(pairwise(np.cumsum([0, *map(len, tasks)]).tolist()))
    return lambda rows: np.stack([rows[:, start:end].mean(axis=1) for start, end in places], axis=1)
