"""From runs to verdicts: how much each arm learns, what the contrasts of a claim come to, and how sure that is."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.bootstrap import Resampled, resampled
from qladder.runners.claim_file import Claim, Question
from qladder.runners.contrast import ERROR, MOST, Estimate, certain, corrected
from qladder.runners.curves import Over, areas
from qladder.runners.groups import scored
from qladder.runners.runs import RunSummary
from qladder.runners.stats import FEW, Floats, Interval, Student, iqm_rows, student_mean, t_quantile

Outcome = Literal["supported", "refuted", "undecided"]
Measures = dict[str, dict[str, dict[int, float]]]
"""By arm, environment and seed: 0 for random play, 1 for a task that is solved."""


class Lost(NamedTuple):
    """A run that ended with a loss or weights that were not finite any more: it would do so again."""

    folder: Path
    arm: str
    env: str
    seed: int


@dataclass(frozen=True)
class Effect:
    """What a question's contrast comes to."""

    estimate: Estimate
    statistic: Literal["IQM", "mean"]
    seeds: int  # that all its arms have on all its environments
    spread: float  # of the effect, with one seed


@dataclass(frozen=True)
class Answer:
    """A question's verdict, with how it was come by."""

    question: Question
    outcome: Outcome
    among_all: bool  # so it is, were the questions of all claims that are judged beside it one family
    effect: float | None  # None without a seed that all arms have
    interval: Interval  # 95 %, by itself
    statistic: Literal["IQM", "mean"]
    seeds: int
    missing: int  # seeds that the claim asks for and that some arm has not yet
    decides: float | None  # how far beyond delta an effect must be, to be found with so many seeds in 80 % of cases
    more_seeds: int | None  # where undecided: how many more would probably tell, if it is as it looks


def measures(
    claim: Claim,
    runs: Iterable[RunSummary],
    labels: Iterable[str],
    over: Over = "agent_steps",
    lost: Iterable[Lost] = (),
) -> Measures:
    """Of finished runs that are called so, by the claim's metric and its environments' scales.

    Those that were `lost` have 0: without them an arm would be judged by the seeds that it survives.
    """
    found: Measures = {label: {place.env: {} for place in claim.place} for label in labels}
    finished = [run for run in runs if scored(run)]
    for place in claim.place:
        there = [run for run in finished if run.env.partition(" ")[0] == place.env and run.agent in found]
        if not there:
            continue
        if claim.metric == "area":
            values = areas(there, over, None if over == "agent_steps" else place.scale.random)[0]
        else:
            values = [run.evaluation.mean for run in there if run.evaluation is not None]
        for run, value in zip(there, values, strict=True):
            found[run.agent][place.env][run.seed] = float(place.scale.normalised(value))
    for _, arm, env, seed in lost:
        if env in found.get(arm, {}):
            found[arm][env][seed] = 0.0
    return found


def effect(question: Question, claim: Claim, found: Measures) -> Effect | None:
    """The interquartile mean, over seeds and environments, of what the contrast comes to seed by seed.

    With a stratified bootstrap (Agarwal et al. 2021). The difference of two interquartile means would not be rid of
    what a seed does to all arms alike: with as much of it as in `benchmarks/claims.py` ten seeds find 55 % of effects
    where this finds 72. With five seeds or fewer, of the means over environments with Student's t. None where the arms
    have no seed in common.
    """
    envs = question.places or tuple(place.env for place in claim.place)
    arms = {name: number for name, number in question.contrast.items() if number}
    seeds = sorted(set.intersection(*(set(found[arm][env]) for arm in arms for env in envs)))
    if not seeds:
        return None
    each: list[Floats] = [
        np.array([sum(number * found[arm][env][seed] for arm, number in arms.items()) for seed in seeds])
        for env in envs
    ]
    if len(seeds) <= FEW:
        means = np.mean(each, axis=0)
        spread = float(np.std(means, ddof=1)) if len(seeds) > 1 else 0.0
        return Effect(student_mean(means), "mean", len(seeds), spread)
    estimate = resampled(each, iqm_rows, generator(0, "bootstrap"))
    return Effect(estimate, "IQM", len(seeds), estimate.standard_error * math.sqrt(len(seeds)))


def answers(questions: Sequence[tuple[Claim, Question, Measures]], error: float = ERROR) -> list[Answer]:
    """The verdicts of claims, of each of which, with this probability or less, a single one is wrong (Holm 1979).

    Supported: the whole interval is above delta. Refuted: all of it is below, so that no effect refutes too. A claim
    that has fewer seeds than it asks for is undecided. A claim's questions are one family, so that its verdicts are the
    same whatever is judged beside it; `Answer.among_all` tells which also hold among all.
    """
    effects = [effect(question, claim, found) for claim, question, found in questions]
    beyond = {
        i: _beyond(e, questions[i][1].delta)
        for i, e in enumerate(effects)
        if e is not None and e.seeds >= questions[i][0].seeds
    }
    among_all = _outcomes(beyond, error, len(questions))
    outcomes: dict[int, Outcome] = {}
    levels: dict[str, float] = {}
    for name in {claim.name for claim, _, _ in questions}:
        asked = [i for i, (claim, _, _) in enumerate(questions) if claim.name == name]
        outcomes |= _outcomes({i: beyond[i] for i in asked if i in beyond}, error, len(asked))
        levels[name] = 1 - error / len(asked)
    return [
        _answer(claim, question, effects[i], outcomes.get(i), outcomes.get(i) == among_all.get(i), levels[claim.name])
        for i, (claim, question, _) in enumerate(questions)
    ]


def _outcomes(beyond: Mapping[int, Estimate], error: float, asked: int) -> dict[int, Outcome]:
    """Of one family of so many questions, of which some may still want runs."""
    words: Mapping[str, Outcome] = {"better": "supported", "worse": "refuted"}
    verdicts = corrected(list(beyond.values()), 0.0, error, of=asked)
    return {i: words.get(verdict, "undecided") for i, verdict in zip(beyond, verdicts, strict=True)}


def _answer(
    claim: Claim, question: Question, found: Effect | None, known: Outcome | None, among_all: bool, level: float
) -> Answer:
    if found is None:
        return Answer(question, "undecided", True, None, (None, None), "mean", 0, claim.seeds, None, None)
    value, seeds, outcome = found.estimate.value, found.seeds, known or "undecided"
    decides = more = None
    if seeds > 1:
        decides = _found_with(seeds, level) * found.spread
        short = abs(value - question.delta)
        if outcome == "undecided" and short > 0:
            enough = range(seeds, MOST + 1)
            needed = seeds + bisect_left(enough, True, key=lambda n: _found_with(n, level) * found.spread <= short)
            more = None if needed in (seeds, MOST + 1) else needed - seeds
    missing = max(claim.seeds - seeds, 0)
    low, high = _beyond(found, question.delta).interval()  # the one that is judged
    interval = (None, None) if low is None or high is None else (low + question.delta, high + question.delta)
    return Answer(question, outcome, among_all, value, interval, found.statistic, seeds, missing, decides, more)


def _found_with(seeds: int, level: float, power: float = 0.8) -> float:
    """How many spreads of one seed an effect must be, to be found so often with so many."""
    return (t_quantile(level, seeds - 1) + t_quantile(2 * power - 1, seeds - 1)) / math.sqrt(seeds)


def _beyond(found: Effect, delta: float) -> Estimate:
    """What of an effect is beyond delta."""
    estimate = found.estimate
    shifted: Estimate
    if isinstance(estimate, Resampled):
        shifted = Resampled(estimate.value - delta, estimate.draws - delta, estimate.df, estimate.wider)
    else:
        shifted = Student(estimate.value - delta, estimate.standard_error, estimate.df)
    return certain(shifted, found.seeds, 1.0)
