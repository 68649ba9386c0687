"""A comparison in the terminal, and its numbers and verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from qladder.runners.compare import Comparison, Pair, Score
from qladder.runners.contrast import Verdict
from qladder.runners.progress import duration
from qladder.runners.stats import FEW, Interval

if TYPE_CHECKING:
    from rich.console import Console


def number(x: float | None) -> str:
    """A score for people: about four digits, `-` where there is none."""
    return "-" if x is None else _unsigned(f"{x:,.{_decimals(x)}f}")


def span(interval: Interval) -> str:
    """`[low, high]` for people, both with as many decimals as the larger one needs; `-` where there is none."""
    low, high = interval
    if low is None or high is None:
        return "-"
    decimals = _decimals(max(abs(low), abs(high)))
    return f"[{_unsigned(f'{low:,.{decimals}f}')}, {_unsigned(f'{high:,.{decimals}f}')}]"


def render_table(comparison: Comparison, console: Console) -> None:
    """Prints scores, differences and failures as tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def show(title: str, columns: str, rows: list[list[str]]) -> None:
        table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns.split("|"):
            justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            table.add_column(column.strip(">"), justify=justify, no_wrap=justify == "right" or "95" in column)
        for row in rows:
            table.add_row(*[Text(cell) for cell in row])
        console.print(table)

    for env in dict.fromkeys(s.env for s in comparison.scores):
        scores = [s for s in comparison.scores if s.env == env]
        protocols = " and ".join(sorted({s.protocol for s in scores}))
        optimum = any(s.optimum is not None for s in scores)
        rows = [
            [s.agent, number(s.mean), number(s.iqm), span(s.central[2]), str(s.seeds), duration(s.seconds)]
            + [number(s.optimum)] * optimum
            for s in scores
        ]
        of = "/".join(sorted({s.central[0] for s in scores}))
        columns = f"agent|>mean|>IQM|95 % of {of}|>seeds|>time a run" + "|>optimum" * optimum
        show(f"{env}, {comparison.metric} (protocol {protocols})", columns, rows)
        if pairs := [p for p in comparison.pairs if p.env == env]:
            rows = [
                [f"{p.a} - {p.b}", number(p.difference), span(p.interval), f"{p.improvement:.0%}", _short(p)]
                for p in pairs
            ]
            of = "/".join(sorted({f"{p.statistic}s" for p in pairs}))
            show(f"{env}, differences of {of}", "pair|>difference|95 % interval|>wins|verdict", rows)
    if comparison.overall:
        rows = [
            [o.agent, number(o.iqm), span(o.iqm_interval), number(o.mean), number(o.median), number(o.optimality_gap)]
            for o in comparison.overall
        ]
        title = f"{len(comparison.overall[0].envs)} environments, normalised: 0 random play, 1 solved or human"
        show(title, "agent|>IQM|95 % interval|>mean|>median|>optimality gap", rows)
    if len(comparison.pairs) > 1:
        console.print(f"verdicts are corrected for all {len(comparison.pairs)} pairs, each interval is 95 % by itself")
    if any(p.verdict == "undecided" for p in comparison.pairs):
        console.print("+N: so many more seeds of each agent would tell in 80 % of cases, if it is as it looks now")
        console.print("without +N: that is not known, or too many\n")
    for line in comparison.cautions:
        console.print(f"caution: {line}", markup=False)
    if comparison.failed:
        show("Without a score", "run|reason", [[f.run, f.reason] for f in comparison.failed])


def sentence(pair: Pair) -> str:
    """The verdict in words, the better agent first."""
    if pair.verdict == "undecided":
        if pair.more_seeds is None:
            return "undecided"
        return f"undecided; {pair.more_seeds:,} more seed{'s' * (pair.more_seeds > 1)} might tell"
    if pair.verdict == "equivalent":
        return f"{pair.a} and {pair.b} equivalent"
    winner, loser = (pair.a, pair.b) if pair.verdict == "better" else (pair.b, pair.a)
    return f"{winner} better than {loser}{_unless(pair)}"


def headline(scores: Sequence[Score], pairs: Sequence[Pair]) -> str:
    """What one environment's runs showed, in a sentence; `scores` are not empty."""
    fewest = min(s.seeds for s in scores)
    best = max(scores, key=lambda s: (s.iqm if fewest > FEW else s.mean, s.mean, s.seeds))
    if len(scores) == 1:
        return f"{best.agent} is the only agent that was run."
    turned: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
    others = [(p.b + _unless(p), p.verdict) for p in pairs if p.a == best.agent]
    others += [(p.a + _unless(p), turned.get(p.verdict, p.verdict)) for p in pairs if p.b == best.agent]
    beaten, equivalent, lost, undecided = (
        sorted(other for other, verdict in others if verdict == kind)
        for kind in ("better", "equivalent", "worse", "undecided")
    )
    if len(undecided) == len(others):
        highest = f"Undecided: {best.agent} has the highest {'IQM' if fewest > FEW else 'mean'}, but"
        if fewest < 2:
            return f"{highest} one seed cannot say how sure that is."
        return f"{highest} not clearly above {_and(undecided) if len(undecided) < 4 else 'any other'}."
    kinds = (("better than", beaten), ("equivalent to", equivalent), ("worse than", lost))
    said = f"{best.agent} is {' and '.join(f'{word} {_and(some)}' for word, some in kinds if some)}"
    return f"{said}; undecided against {_and(undecided)}." if undecided else f"{said}."


def _short(pair: Pair) -> str:
    """Beside the names of both."""
    if pair.verdict == "undecided":
        return "undecided" if pair.more_seeds is None else f"undecided (+{pair.more_seeds:,})"
    if pair.verdict == "equivalent":
        return "equivalent"
    return f"{pair.a if pair.verdict == 'better' else pair.b} better{_unless(pair)}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _unless(pair: Pair) -> str:
    decided = pair.verdict in ("better", "worse")
    return " (not by their means)" if decided and pair.difference * pair.difference_of_means < 0 else ""


def _unsigned(text: str) -> str:
    """Nothing is not less than nothing."""
    return text if text.strip("-0.") else text.removeprefix("-")


def _decimals(x: float) -> int:
    size = abs(x)
    if 5e-7 < size < 0.01:
        return 1 - math.floor(math.log10(size))
    return 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
