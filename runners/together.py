"""Agents over all environments that have a scale: which of them, and what is told of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from qladder.envs.errors import UserError
from qladder.runners.bootstrap import resampled
from qladder.runners.curves import in_common
from qladder.runners.groups import Group
from qladder.runners.overall import enough, overall, probability_of_improvement, profile
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


def together(
    grouped: Sequence[Group], values: Sequence[Sequence[float]], scales: Scales | None
) -> tuple[list[Overall], list[str]]:
    """Over environments that have a scale, and agents that were run on all of them, two at least of each.

    `values` are each group's, one for each of its runs. Where not every agent was run everywhere, those are taken that
    make the largest table. The best come first. And in words what of curves there is not, and why.
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
    seen = [agent for agent in agents if all(_on_the_way(table[agent][env][0]) for env in envs)]
    curves, cautions = _curves({env: [table[agent][env][:2] for agent in seen] for env in envs}) if seen else ([], [])
    unseen = [agent for agent in agents if agent not in seen]
    if unseen and any(len(run.curve) > 1 for agent in agents for env in envs for run in table[agent][env][0].runs):
        cautions.append(
            f"without evaluations on the way, and so without a curve over environments: {', '.join(unseen)}"
        )
    of_agent = dict(zip(seen, curves, strict=True)) if curves else {}
    rows = []
    for agent in agents:
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
                curve=of_agent.get(agent),
            )
        )
    return sorted(rows, key=lambda row: (-row.iqm, -row.mean)), cautions


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


def _on_the_way(group: Group) -> bool:
    return all(len(run.curve) > 1 and not run.taken for run in group.runs)


def _curves(by_env: Mapping[str, Sequence[tuple[Group, Scale]]]) -> tuple[list[OverallCurve], list[str]]:
    """One for each agent, where all runs have a stretch in common; and in words where that ends before others do.

    `by_env` has for each environment the agents' groups, in one order, and its scale. Runs are taken as straight
    between their evaluations, from where all have been evaluated.
    """
    on_the_way: list[list[list[tuple[Floats, Floats]]]] = []  # of each environment, agent and run: share and score
    start, cut = 0.0, []
    for env, row in by_env.items():
        try:
            points, (first, last) = in_common([run for group, _ in row for run in group.runs], "agent_steps")
        except UserError as error:
            return [], [f"no curves over environments: {error}"]
        runs = iter(points)
        on_the_way.append([[(x / last, known.normalised(y)) for x, y in islice(runs, len(g.runs))] for g, known in row])
        start = max(start, first / last)
        if max(x[-1] for x, _ in points) > last:
            shortest = next(g.label for g, _ in row if any(run.curve[-1].agent_steps <= last for run in g.runs))
            cut.append(f"on {env} after {last:,.0f} agent steps ({shortest})")
    cautions = [f"curves over environments end where the shortest run does: {'; '.join(cut)}"] if cut else []
    share = np.linspace(start, 1, POINTS)
    curves = []
    for theirs in zip(*on_the_way, strict=True):
        found = []
        for at in share:
            scores = [np.array([np.interp(at, x, y) for x, y in task]) for task in theirs]
            found.append(resampled(scores, iqm_rows, resamples=enough(scores)))
        curves.append(OverallCurve(share.tolist(), [f.value for f in found], [f.interval() for f in found]))
    return curves, cautions


def _within(interval: Interval) -> Interval:
    """A share is from 0 to 1."""
    low, high = interval
    return (None, None) if low is None or high is None else (max(low, 0.0), min(high, 1.0))
