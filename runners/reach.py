"""When agents first reach a return, over any clock; of seeds that never do it is known that they need longer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qladder.runners.curves import Over
from qladder.runners.groups import Group
from qladder.runners.stats import Interval

CLOCKS: tuple[Over, ...] = ("agent_steps", "frames", "updates", "seconds")


@dataclass(frozen=True)
class Reached:
    """Of one agent on one environment, over seeds; by each clock, None where it was not reached by so many seeds."""

    agent: str
    env: str
    mark: float  # a mean return
    seeds: int
    reached: int  # by so many of them, in an evaluation on the way or the last
    median: dict[str, float | None]
    interval: dict[str, Interval]  # 95 %, of the median; the upper end None where it lies beyond the runs


def reached(grouped: Sequence[Group], marks: Mapping[str, float]) -> list[Reached]:
    """When each group's seeds were first evaluated at the mark of their environment or above.

    The median of all seeds, those that did not get there counted as later than all others (censored); its interval is
    from one order statistic to another, with probabilities of the binomial distribution, which hold for any
    distribution of times (Hahn and Meeker 1991, section 5.2): fewer than six seeds have none. Groups are left out
    of which it is not known, for want of evaluations on the way.
    """
    rows = []
    for group in grouped:
        mark = marks.get(group.env)
        curves = [run.curve for run in group.runs]
        if mark is None or not all(curves) or any(run.taken for run in group.runs):
            continue
        first = [next((point for point in curve if point.mean >= mark), None) for curve in curves]
        there = [point for point in first if point is not None]
        times = {clock: sorted(float(getattr(point, clock)) for point in there) for clock in CLOCKS}
        rows.append(
            Reached(
                agent=group.label,
                env=group.env,
                mark=mark,
                seeds=len(first),
                reached=len(there),
                median={clock: median(times[clock], len(first)) for clock in CLOCKS},
                interval={clock: median_interval(times[clock], len(first)) for clock in CLOCKS},
            )
        )
    return rows


def median(times: Sequence[float], seeds: int) -> float | None:
    """Of ascending times, with those of the other seeds beyond; the lower one of two in the middle."""
    middle = (seeds - 1) // 2
    return times[middle] if middle < len(times) else None


def median_interval(times: Sequence[float], seeds: int, level: float = 0.95) -> Interval:
    """The narrowest that is as far from both ends and holds the median with this probability; None: beyond, or none."""
    outside = (1 - level) / 2
    cut, tail = 0, 0.5**seeds  # that so few of the seeds, or fewer, are below the median
    while cut + 1 <= seeds // 2 and (more := tail + math.comb(seeds, cut + 1) * 0.5**seeds) <= outside:
        cut, tail = cut + 1, more
    if tail > outside:
        return None, None
    low, high = cut, seeds - 1 - cut
    return times[low] if low < len(times) else None, times[high] if high < len(times) else None
