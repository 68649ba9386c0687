"""Which agent is better, by how much and how sure, from finished runs; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, islice
from typing import Any, Literal

import numpy as np

from qladder.runners.bootstrap import resampled
from qladder.runners.contrast import ERROR, Contrast, Verdict, contrast, corrected, seeds_needed, verdict
from qladder.runners.curves import Over, areas
from qladder.runners.groups import Group, groups, mixed_code, scored
from qladder.runners.runs import LeftOut, RunSummary
from qladder.runners.scales import Scales
from qladder.runners.stats import FEW, Interval, iqm, iqm_rows, mean_interval
from qladder.runners.together import MARKS, Overall, together

Metric = Literal["score", "area"]


@dataclass(frozen=True)
class Score:
    """One agent on one environment."""

    agent: str
    env: str
    protocol: str
    protocol_hash: str
    mean: float  # over seeds
    iqm: float  # over seeds
    interval: Interval  # of the mean, 95 %, over seeds
    iqm_interval: Interval  # both None with five seeds or fewer
    seeds: int
    scores: list[float]  # one for each of `seed_numbers`
    seed_numbers: list[int]
    agent_steps: int  # planned, for each run
    seconds: float  # of training, mean over seeds
    cpu_seconds: float | None  # of all cores, evaluations counted, mean over seeds
    joules: float | None  # of the machine's processors meanwhile, mean over seeds
    optimum: float | None
    human_normalized: float | None  # mean over seeds

    @property
    def rank(self) -> tuple[float, ...]:
        """What tables are sorted by: the highest in front, of equal ones the highest mean, then the most seeds."""
        return -self.central[1], -self.mean, -self.seeds

    @property
    def central(self) -> tuple[str, float, Interval]:
        """What verdicts are about: the IQM over seeds, of at most five the mean."""
        if self.seeds > FEW:
            return "IQM", self.iqm, self.iqm_interval
        return "mean", self.mean, self.interval


@dataclass(frozen=True)
class Pair:
    """Two agents on one environment; the difference is `a` minus `b`."""

    a: str
    b: str
    env: str
    statistic: Literal["IQM", "mean"]  # that differs
    paired: bool  # by seed
    difference: float
    interval: Interval  # 95 %, by itself
    verdict: Verdict  # about `a`, corrected for all pairs that are compared
    verdict_alone: Verdict  # as if this were the only pair
    difference_of_means: float
    improvement: float  # how often a seed of `a` beats one of `b`, ties half
    effect: float | None  # the difference over the spread of seeds
    more_seeds: int | None  # for each agent, where undecided and as many would probably tell


@dataclass(frozen=True)
class Failed:
    """A run that has no score, and why."""

    run: str
    agent: str | None
    env: str | None
    seed: int | None
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Scores, differences and what could not be compared."""

    scores: list[Score]
    pairs: list[Pair]
    failed: list[Failed]
    overall: list[Overall]
    delta: float = 0.0  # differences of less do not matter
    metric: str = "score"  # or the area over a clock
    cautions: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """`scores`, `pairs`, `overall`, `failed` and `cautions` as plain JSON values, and what was compared."""
        return {
            "metric": self.metric,
            "delta": self.delta,
            "cautions": self.cautions,
            "marks": MARKS.tolist(),
        } | {
            name: [asdict(row) for row in rows]
            for name, rows in (
                *(("scores", self.scores), ("pairs", self.pairs)),
                *(("overall", self.overall), ("failed", self.failed)),
            )
        }


def compare(
    runs: Sequence[RunSummary],
    left_out: Sequence[LeftOut] = (),
    *,
    mix_protocols: bool = False,
    delta: float = 0.0,
    metric: Metric = "score",
    over: Over = "agent_steps",
    scales: Scales | None = None,
) -> Comparison:
    """Scores per agent and environment, and every two agents of an environment against each other.

    A run's score is the evaluation of its final weights; with `metric` "area" the mean of all its evaluations over a
    clock, as far as every run of the environment went, which tells who learns fast where all learn in the end.
    Agents that were run with the same seeds are compared seed by seed. Each interval is a 95 % interval over seeds by
    itself; verdicts are corrected for the number of pairs (Holm 1979). Differences of less than `delta`, in returns, do
    not matter. Over environments that have a scale, shipped or in `scales`, agents are compared together too.

    Raises:
        UserError: an environment's runs were made under different protocols and `mix_protocols` is False, two runs
            differ in nothing, not even the seed, or runs have no stretch of the clock in common.
    """
    grouped = groups(runs, mix_protocols=mix_protocols)
    values = _areas(grouped, over) if metric == "area" else [group.scores for group in grouped]
    both = [(i, j) for i, j in combinations(range(len(grouped)), 2) if grouped[i].env == grouped[j].env]
    found = [contrast(values[i], values[j], paired=_same_seeds(grouped[i], grouped[j])) for i, j in both]
    verdicts = corrected([f.difference for f in found], delta)
    pairs = [
        _pair(grouped[i], grouped[j], f, v, delta, len(both))
        for (i, j), f, v in zip(both, found, verdicts, strict=True)
    ]
    failed = [Failed(str(r.folder), r.agent, r.env, r.seed, _why(r)) for r in runs if not scored(r)]
    failed += [Failed(str(folder), None, None, None, reason) for folder, reason in left_out]
    scores = [_score(group, some, metric) for group, some in zip(grouped, values, strict=True)]
    overall, overall_cautions = together(grouped, values, scales)
    measured = metric if metric == "score" else f"area over {over}"
    cautions = [told for group in grouped if (told := mixed_code(group)) is not None]
    cautions += overall_cautions
    if unknown := sorted((scales or {}).keys() - {group.env for group in grouped}):
        cautions.append(f"no run here is of {', '.join(unknown)}, of which a scale was given")
    return Comparison(scores, pairs, failed, overall, delta, measured, cautions)


def _areas(grouped: Sequence[Group], over: Over) -> list[list[float]]:
    """Of each group's runs, over what all runs of its environment have in common."""
    by_env: dict[str, list[Group]] = {}
    for group in grouped:
        by_env.setdefault(group.env, []).append(group)
    found: dict[str, Iterator[float]] = {
        env: iter(areas([run for group in some for run in group.runs], over)[0]) for env, some in by_env.items()
    }
    return [list(islice(found[group.env], len(group.runs))) for group in grouped]


def _why(run: RunSummary) -> str:
    reason = "no evaluation" if run.exit_reason == "finished" else run.exit_reason
    return f"{reason} at {run.agent_steps:,} of {run.steps:,} agent steps"


def _score(group: Group, scores: list[float], metric: Metric) -> Score:
    first = group.runs[0]
    human = [r.evaluation.human_normalized for r in group.runs if r.evaluation is not None]
    known = [h for h in human if h is not None]
    return Score(
        agent=group.label,
        env=group.env,
        protocol=str(first.protocol),
        protocol_hash=first.protocol.hash,
        mean=sum(scores) / len(scores),
        iqm=iqm(scores),
        interval=mean_interval(scores),
        iqm_interval=resampled([np.array(scores)], iqm_rows).interval() if len(scores) > FEW else (None, None),
        seeds=len(scores),
        scores=scores,
        seed_numbers=[run.seed for run in group.runs],
        agent_steps=first.steps,
        seconds=sum(run.seconds for run in group.runs) / len(group.runs),
        cpu_seconds=_mean([run.cpu_seconds for run in group.runs]),
        joules=_mean([run.joules for run in group.runs]),
        optimum=first.optimum,
        human_normalized=sum(known) / len(known) if len(known) == len(human) and metric == "score" else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one of them is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _same_seeds(a: Group, b: Group) -> bool:
    return [run.seed for run in a.runs] == [run.seed for run in b.runs]


def _pair(a: Group, b: Group, found: Contrast, judged: Verdict, delta: float, number: int) -> Pair:
    planned = None
    if judged == "undecided":
        seen = abs(found.difference.value)  # how far it is from 0, or inside delta
        needed = seeds_needed(found, max(seen, delta - seen), level=1 - ERROR / number)
        planned = None if needed is None or needed <= found.seeds else needed - found.seeds
    return Pair(
        a=a.label,
        b=b.label,
        env=a.env,
        statistic=found.statistic,
        paired=found.paired,
        difference=found.difference.value,
        interval=found.difference.interval(),
        verdict=judged,
        verdict_alone=verdict(found.difference, delta),
        difference_of_means=found.difference_of_means,
        improvement=found.improvement,
        effect=found.effect,
        more_seeds=planned,
    )
