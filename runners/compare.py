"""Which agent is better, by how much and how sure, from finished runs; nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from qladder.envs.errors import UserError
from qladder.runners.runs import RunSummary, Unfinished
from qladder.runners.stats import Interval, difference, iqm, mean_interval

if TYPE_CHECKING:
    from rich.console import Console

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Group:
    """The runs that differ in nothing but the seed, in the order of their seeds, under one name."""

    label: str  # the agent's name, with what else tells it from another group of this environment
    env: str
    runs: tuple[RunSummary, ...]

    @property
    def scores(self) -> list[float]:
        return [run.evaluation.mean for run in self.runs if run.evaluation is not None]


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
    seeds: int
    scores: list[float]  # one for each of `seed_numbers`
    seed_numbers: list[int]
    agent_steps: int  # planned, for each run
    seconds: float  # of training, mean over seeds
    optimum: float | None
    human_normalized: float | None  # mean over seeds


@dataclass(frozen=True)
class Pair:
    """Two agents on one environment; the difference is `a` minus `b`."""

    a: str
    b: str
    env: str
    difference: float
    interval: Interval
    verdict: Verdict  # about `a`: whether the interval excludes zero


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

    def to_json(self) -> dict[str, Any]:
        """`scores`, `pairs` and `failed` as plain JSON values."""
        return {
            name: [asdict(row) for row in rows]
            for name, rows in (("scores", self.scores), ("pairs", self.pairs), ("failed", self.failed))
        }


def compare(
    runs: Sequence[RunSummary], unfinished: Sequence[Unfinished] = (), *, mix_protocols: bool = False
) -> Comparison:
    """Scores per agent and environment, and every two agents of an environment against each other.

    Each interval is a 95 % interval over seeds by itself; nothing is corrected for the number of pairs.

    Raises:
        UserError: an environment's runs were made under different protocols and `mix_protocols` is False, or two
            runs differ in nothing, not even the seed.
    """
    grouped = groups(runs, mix_protocols=mix_protocols)
    pairs = [_pair(a, b) for a, b in combinations(grouped, 2) if a.env == b.env]
    failed = [Failed(str(r.folder), r.agent, r.env, r.seed, _why(r)) for r in runs if not _scored(r)]
    failed += [Failed(str(u.folder), None, None, None, _how_far(u)) for u in unfinished]
    return Comparison([_score(g) for g in grouped], pairs, failed)


def groups(runs: Iterable[RunSummary], *, mix_protocols: bool = False) -> list[Group]:
    """The finished runs by environment and agent, both in alphabetical order.

    Runs of one agent with different settings or planned steps are different agents, and are named so; so are runs of
    different protocols where `mix_protocols` lets them in. Errors as for `compare`.
    """
    by_env: dict[str, list[RunSummary]] = {}
    for run in filter(_scored, runs):
        by_env.setdefault(run.env, []).append(run)
    found = []
    for env in sorted(by_env):
        if not mix_protocols:
            _refuse_mixed(env, by_env[env])
        by_label: dict[str, list[RunSummary]] = {}
        for run in by_env[env]:
            by_label.setdefault(_label(run, by_env[env]), []).append(run)
        for label in sorted(by_label):
            found.append(Group(label, env, _by_seed(label, by_label[label])))
    return found


def number(x: float | None) -> str:
    """A score for people: about four digits, `-` where there is none."""
    return "-" if x is None else f"{x:,.{_decimals(x)}f}"


def span(interval: Interval) -> str:
    """`[low, high]` for people, both with as many decimals as the larger one needs; `-` where there is none."""
    low, high = interval
    if low is None or high is None:
        return "-"
    decimals = _decimals(max(abs(low), abs(high)))
    return f"[{low:,.{decimals}f}, {high:,.{decimals}f}]"


def render_table(comparison: Comparison, console: Console) -> None:
    """Prints scores, differences and failures as tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def show(title: str, columns: str, rows: list[list[str]]) -> None:
        table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns.split("|"):
            justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            table.add_column(column.strip(">"), justify=justify, no_wrap=column in ("env", "agent"))
        for row in rows:
            table.add_row(*[Text(cell) for cell in row])
        console.print(table)

    if comparison.scores:
        rows = [
            [s.env, s.agent, number(s.mean), span(s.interval), number(s.iqm), str(s.seeds), number(s.optimum)]
            for s in comparison.scores
        ]
        protocols = sorted({s.protocol for s in comparison.scores})
        title = f"Scores (protocol {' and '.join(protocols)})"
        show(title, "env|agent|>mean|95 % interval|>IQM|>seeds|>optimum", rows)
    if comparison.pairs:
        rows = [
            [p.env, f"{p.a} - {p.b}", number(p.difference), span(p.interval), sentence(p)] for p in comparison.pairs
        ]
        show("Differences of means", "env|pair|>difference|95 % interval|verdict", rows)
    if comparison.failed:
        show("Without a score", "run|reason", [[f.run, f.reason] for f in comparison.failed])


def sentence(pair: Pair) -> str:
    """The verdict in words, the better agent first."""
    if pair.verdict == "undecided":
        return "undecided"
    winner, loser = (pair.a, pair.b) if pair.verdict == "better" else (pair.b, pair.a)
    return f"{winner} better than {loser}"


def _decimals(x: float) -> int:
    size = abs(x)
    if 0 < size < 0.01:
        return 1 - math.floor(math.log10(size))
    return 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3


def _scored(run: RunSummary) -> bool:
    return run.exit_reason == "finished" and run.evaluation is not None


def _why(run: RunSummary) -> str:
    reason = "no evaluation" if run.exit_reason == "finished" else run.exit_reason
    return f"{reason} at {run.agent_steps:,} of {run.steps:,} agent steps"


def _how_far(run: Unfinished) -> str:
    where = "nothing measured yet" if run.agent_steps is None else f"last measured at {run.agent_steps:,} agent steps"
    return f"unfinished, {where}"


def _refuse_mixed(env: str, runs: Iterable[RunSummary]) -> None:
    protocols = {run.protocol.hash: f"{run.protocol} ({run.protocol.hash})" for run in runs}
    if len(protocols) > 1:
        raise UserError(
            f"runs of {env} were made under different protocols, {' and '.join(sorted(protocols.values()))}, "
            "so their scores do not compare; leave some out, or ask for it with --mix-protocols"
        )


def _label(run: RunSummary, beside: Sequence[RunSummary]) -> str:
    """The agent's name and whatever differs among the runs of that agent (the protocol: of the environment)."""
    namesakes = [other for other in beside if other.agent == run.agent]
    label = run.agent
    if len({other.steps for other in namesakes}) > 1:
        label += f" @{run.steps:,}"
    if len({other.settings_hash for other in namesakes if other.steps == run.steps}) > 1:
        label += f" #{run.settings_hash[:6]}"
    if len({other.protocol.hash for other in beside}) > 1:
        label += f" [{run.protocol} {run.protocol.hash[:6]}]"
    return label


def _by_seed(label: str, runs: Iterable[RunSummary]) -> tuple[RunSummary, ...]:
    by_seed: dict[int, RunSummary] = {}
    for run in runs:
        if run.seed in by_seed:
            raise UserError(
                f"two runs of {label} on {run.env} have seed {run.seed}, which would count one result twice: "
                f"{by_seed[run.seed].folder} and {run.folder}; leave one out"
            )
        by_seed[run.seed] = run
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def _score(group: Group) -> Score:
    first, scores = group.runs[0], group.scores
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
        seeds=len(scores),
        scores=scores,
        seed_numbers=[run.seed for run in group.runs],
        agent_steps=first.steps,
        seconds=sum(run.seconds for run in group.runs) / len(group.runs),
        optimum=first.optimum,
        human_normalized=sum(known) / len(known) if len(known) == len(human) else None,
    )


def _pair(a: Group, b: Group) -> Pair:
    delta, (low, high) = difference(a.scores, b.scores)
    verdict: Verdict = "undecided"
    if low is not None and high is not None and not low <= 0 <= high:
        verdict = "better" if low > 0 else "worse"
    return Pair(a.label, b.label, a.env, delta, (low, high), verdict)
