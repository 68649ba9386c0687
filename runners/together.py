"""Agents over all environments that have a scale: which of them, and what is told of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from qladder.envs.errors import UserError
from qladder.runners.bootstrap import resampled
from qladder.runners.curves import in_common
from qladder.runners.groups import Group
from qladder.runners.overall import FEWER, overall, probability_of_improvement, profile
from qladder.runners.scales import Scale, Scales, scale
from qladder.runners.stats import Floats, Interval, iqm_rows

MARKS = np.linspace(0, 1.5, 61)
"""Normalised scores at which performance profiles are counted."""
POINTS = 41
"""Of a curve over all environments."""


@dataclass(frozen=True)
class OverallCurve:
    """An agent's evaluations on the way, normalised, over several environments."""

    share: list[float]  # of the agent steps that all runs of an environment were evaluated for
    iqm: list[float]  # over all seeds of all environments
    interval: list[Interval]


@dataclass(frozen=True)
class Overall:
    """One agent over several environments; scores are normalised."""

    agent: str
    envs: list[str]
    iqm: float
    iqm_interval: Interval
    mean: float
    mean_interval: Interval
    median: float
    median_interval: Interval
    optimality_gap: float
    optimality_gap_interval: Interval
    profile: list[float]  # the share of seeds above each of `MARKS`
    profile_intervals: list[Interval]
    improvement: dict[str, tuple[float, Interval]]  # on every other agent
    curve: OverallCurve | None  # where all runs were evaluated on the way


def together(grouped: Sequence[Group], values: Sequence[Sequence[float]], scales: Scales | None) -> list[Overall]:
    """Over environments that have a scale, and agents that were run on all of them, two at least of each.

    `values` are each group's, one for each of its runs. Where not every agent was run everywhere, those are taken that
    make the largest table. The best come first.
    """
    table: dict[str, dict[str, tuple[Group, Scale, Floats]]] = {}
    for group, some in zip(grouped, values, strict=True):
        if (known := scale(group.env, scales)) is not None:
            normalised = known.normalised(np.array(some, dtype=np.float64))
            table.setdefault(group.label, {})[group.env] = (group, known, normalised)
    agents, envs = _largest({agent: set(theirs) for agent, theirs in table.items()})
    tasks = {agent: [table[agent][env][2] for env in envs] for agent in agents}
    better: dict[str, dict[str, tuple[float, Interval]]] = {agent: {} for agent in agents}
    for a, b in combinations(agents, 2):
        found_better = probability_of_improvement(tasks[a], tasks[b])
        low, high = found_better.interval()
        better[a][b] = (found_better.value, (low, high))
        turned = (None, None) if low is None or high is None else (1 - high, 1 - low)
        better[b][a] = (1 - found_better.value, turned)
    curves = _curves([[table[agent][env][:2] for agent in agents] for env in envs])
    rows = []
    for i, agent in enumerate(agents):
        told, shares = overall(tasks[agent]), profile(tasks[agent], MARKS)
        rows.append(
            Overall(
                agent=agent,
                envs=envs,
                iqm=told.iqm.value,
                iqm_interval=told.iqm.interval(),
                mean=told.mean.value,
                mean_interval=told.mean.interval(),
                median=told.median.value,
                median_interval=told.median.interval(),
                optimality_gap=told.optimality_gap.value,
                optimality_gap_interval=told.optimality_gap.interval(),
                profile=[share.value for share in shares],
                profile_intervals=[_within(share.interval()) for share in shares],
                improvement=better[agent],
                curve=None if curves is None else curves[i],
            )
        )
    return sorted(rows, key=lambda row: (-row.iqm, -row.mean))


def _largest(run_on: dict[str, set[str]]) -> tuple[list[str], list[str]]:
    """Agents and environments such that each agent was run on each; of each two or none."""
    shared = {tuple(sorted(one & other)) for one in run_on.values() for other in run_on.values()}
    wholes = [
        ([agent for agent, theirs in run_on.items() if theirs >= set(envs)], list(envs)) for envs in sorted(shared)
    ]
    return max(
        (whole for whole in wholes if min(map(len, whole)) > 1),
        key=lambda whole: len(whole[0]) * len(whole[1]),
        default=([], []),
    )


def _curves(by_env: Sequence[Sequence[tuple[Group, Scale]]]) -> list[OverallCurve] | None:
    """One for each agent, where all runs were evaluated on the way.

    `by_env` has for each environment the agents' groups, in one order, and its scale. Runs are taken as straight
    between their evaluations, from where all have been evaluated.
    """
    on_the_way: list[list[list[tuple[Floats, Floats]]]] = []  # of each environment, agent and run: share and score
    start = 0.0
    try:
        for row in by_env:
            points, (first, last) = in_common([run for group, _ in row for run in group.runs], "agent_steps")
            runs = iter(points)
            on_the_way.append(
                [[(x / last, known.normalised(y)) for x, y in islice(runs, len(g.runs))] for g, known in row]
            )
            start = max(start, first / last)
    except UserError:  # a run that was not evaluated on the way
        return None
    share = np.linspace(start, 1, POINTS)
    curves = []
    for theirs in zip(*on_the_way, strict=True):
        found = [
            resampled([np.array([np.interp(at, x, y) for x, y in task]) for task in theirs], iqm_rows, resamples=FEWER)
            for at in share
        ]
        curves.append(OverallCurve(share.tolist(), [f.value for f in found], [f.interval() for f in found]))
    return curves


def _within(interval: Interval) -> Interval:
    """A share is from 0 to 1."""
    low, high = interval
    return (None, None) if low is None or high is None else (max(low, 0.0), min(high, 1.0))
