"""Learning curves of one agent over its seeds, on any clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qladder.envs.errors import UserError
from qladder.runners.runs import CurvePoint, RunSummary
from qladder.runners.stats import Floats, t_quantile

Over = Literal["agent_steps", "frames", "updates", "seconds", "cpu_seconds"]
"""A clock of evaluations; seconds do not count evaluations."""

FRAMES_PER_SECOND = 60
HUMAN_MARKS = ((600.0, "10 min"), (7200.0, "2 h"), (36000.0, "10 h"), (864000.0, "10 days"))
MOST_POINTS = 400
"""Of a curve; of more a picture shows nothing."""


@dataclass(frozen=True)
class Clock:
    """One way to count experience."""

    name: str
    read: Callable[[CurvePoint], float]
    is_time: bool  # in seconds, drawn in the unit that fits
    marks: tuple[tuple[float, str], ...] = ()
    of_frames: Callable[[Floats, float], Floats] | None = None  # and how many make an agent step


CLOCKS = (
    Clock("agent steps", lambda p: p.agent_steps, is_time=False, of_frames=lambda frames, skip: frames / skip),
    Clock("frames", lambda p: p.frames, is_time=False, of_frames=lambda frames, _: frames),
    Clock("updates", lambda p: p.updates, is_time=False),
    Clock("wall-clock time of training", lambda p: p.seconds, is_time=True),
    Clock(
        "human-play time, 60 frames a second",
        lambda p: p.frames / FRAMES_PER_SECOND,
        is_time=True,
        marks=HUMAN_MARKS,
        of_frames=lambda frames, _: frames / FRAMES_PER_SECOND,
    ),
)


CPU = Clock("CPU time of training", lambda p: p.cpu_seconds or 0.0, is_time=True)
"""Of evaluations that tell it."""


@dataclass(frozen=True)
class Curve:
    """One agent's evaluations over one clock; `low` and `high` are nan where there is one seed."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    seeds: list[tuple[Floats, Floats]]  # x and y of each run


def aggregate(runs: Iterable[RunSummary], clock: Clock) -> Curve:
    """Mean and 95 % interval (Student's t) over seeds on the union of their evaluation points, or evenly if too many.

    Each run is interpolated between its own points and never beyond them; the mean is taken where every run has been
    measured, so that a run that ends early does not make a jump. Runs that took another's weights have a final
    evaluation alone, and are left out where others have more.
    """
    runs = [run for run in runs if run.curve]
    on_the_way = [run for run in runs if not run.taken]
    seeds = [_points(run, clock) for run in on_the_way or runs]
    if not seeds:
        return Curve(np.empty(0), np.empty(0), np.empty(0), np.empty(0), [])
    x = np.unique(np.concatenate([xs for xs, _ in seeds]))
    x = x[(x >= max(xs[0] for xs, _ in seeds)) & (x <= min(xs[-1] for xs, _ in seeds))]
    if x.size > MOST_POINTS:
        x = np.linspace(x[0], x[-1], MOST_POINTS)
    values = np.stack([np.interp(x, xs, ys) for xs, ys in seeds], axis=1)
    n, mean = len(seeds), values.mean(axis=1)
    margin = np.full(x.size, np.nan)
    if n > 1:
        margin = t_quantile(0.95, n - 1) * values.std(axis=1, ddof=1) / math.sqrt(n)
    return Curve(x, mean, mean - margin, mean + margin, seeds)


def areas(
    runs: Iterable[RunSummary], over: Over, begins: float | None = None
) -> tuple[list[float], tuple[float, float]]:
    """Each run's mean evaluation over the stretch of a clock on which all have been evaluated; and that stretch.

    The area under the curve, straight between evaluations, over its length: early learning counts as much as late. With
    `begins`, the return of who has learnt nothing, curves begin with it at 0 of the clock.

    Raises:
        UserError: there is no such stretch.
    """
    try:
        curves, (start, end) = in_common(runs, over, begins)
    except UserError as error:
        raise UserError(f"{error}; --metric score compares without evaluations on the way") from None
    found = []
    for x, y in curves:
        inside = np.unique([start, *x[(x > start) & (x < end)], end])
        found.append(float(np.trapezoid(np.interp(inside, x, y), inside) / (end - start)))
    return found, (start, end)


def in_common(
    runs: Iterable[RunSummary], over: Over, begins: float | None = None
) -> tuple[list[tuple[Floats, Floats]], tuple[float, float]]:
    """Each run's evaluations, clock and return, and the stretch of the clock on which all have been; see `areas`.

    Raises:
        UserError: there is no such stretch.
    """
    clock = Clock(over, lambda point: float(getattr(point, over)), is_time=False)
    runs = list(runs)
    if untold := [run for run in runs if any(getattr(point, over) is None for point in run.curve)]:
        raise UserError(f"{untold[0].folder}: its evaluations do not tell {over}; --over seconds works")
    if bare := [run for run in runs if not run.curve]:
        raise UserError(f"{bare[0].folder}: not evaluated during training")
    curves = [_points(run, clock) for run in runs]
    if begins is not None:
        curves = [(np.append(0.0, x[x > 0]), np.append(begins, y[x > 0])) for x, y in curves]
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not start < end:
        if once := [run for run in runs if len(run.curve) < 2]:
            raise UserError(
                f"{once[0].folder}: was evaluated once, and a stretch needs two evaluations (run.eval_every)"
            )
        late = max(runs, key=lambda run: float(getattr(run.curve[0], over)))
        early = min(runs, key=lambda run: float(getattr(run.curve[-1], over)))
        raise UserError(
            f"{late.env}: {late.folder} was first evaluated when {early.folder} had been for the last time, by {over}"
        )
    return curves, (start, end)


def _points(run: RunSummary, clock: Clock) -> tuple[Floats, Floats]:
    """Of two evaluations at one time the later one counts."""
    points = sorted({clock.read(p): p.mean for p in run.curve}.items())
    x, y = np.array(points, dtype=np.float64).T
    return x, y
