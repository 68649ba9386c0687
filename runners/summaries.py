"""What a report says as Markdown to paste, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qladder.envs.errors import UserError
from qladder.runners.arrays import DAMAGED
from qladder.runners.compare import Comparison
from qladder.runners.groups import Group
from qladder.runners.likeness import written
from qladder.runners.reach import Reached
from qladder.runners.runs import RunSummary
from qladder.runners.wording import headline, number, sentence, span


def markdown(comparison: Comparison, title: str, facts: Sequence[tuple[str, list[str]]]) -> str:
    """Verdicts first, then scores and decided differences, and on what it was measured."""
    parts = [f"# {_plain(title)}"]
    envs = list(dict.fromkeys(s.env for s in comparison.scores))
    by_env = [
        (
            env,
            sorted((s for s in comparison.scores if s.env == env), key=lambda s: s.rank),
            [p for p in comparison.pairs if p.env == env],
        )
        for env in envs
    ]
    parts.append("\n".join(f"* **{_plain(env)}**: {_plain(headline(scores, pairs))}" for env, scores, pairs in by_env))
    if comparison.overall:
        rows = [
            [o.agent, number(o.iqm), span(o.iqm_interval), number(o.mean), number(o.median), number(o.optimality_gap)]
            for o in comparison.overall
        ]
        parts.append(f"{len(comparison.overall[0].envs)} environments together; 0 is random play, 1 solved or human:")
        parts.append(_table(["agent", "IQM", "95 % interval", "mean", "median", "optimality gap"], rows))
    for env, scores, pairs in by_env:
        protocols = ", ".join(sorted({f"{s.protocol} ({s.protocol_hash})" for s in scores}))
        parts.append(f"## {_plain(env)}\n\n{_plain(comparison.metric)}; protocol {_plain(protocols)}")
        rows = [
            [s.agent, number(s.mean), number(s.iqm), f"{span(s.central[2])} of {s.central[0]}", str(s.seeds)]
            for s in scores
        ]
        parts.append(_table(["agent", "mean", "IQM", "95 % interval", "seeds"], rows))
        decided = [p for p in pairs if p.verdict != "undecided"]
        if decided:
            told = [[f"{p.a} − {p.b}", number(p.difference), span(p.interval), sentence(p)] for p in decided]
            parts.append(_table(["pair", "difference", "95 % interval", "verdict"], told))
        if undecided := len(pairs) - len(decided):
            parts.append(f"Undecided: {undecided} of {len(pairs)} pairs.")
    if comparison.failed:
        parts.append(_table(["without a score", "reason"], [[f.run, f.reason] for f in comparison.failed]))
    if facts:
        parts.append("## Measured on\n\n" + "\n".join(f"* {_plain(k)}: {_plain(', '.join(v))}" for k, v in facts))
    return "\n\n".join(parts) + "\n"


def spreadsheets(comparison: Comparison, grouped: Sequence[Group], first: Sequence[Reached]) -> dict[str, str]:
    """CSV by name: `scores`, `pairs`, `overall` and its curves, `reached`, `runs`, `settings`, `curves`."""
    runs = [(group.label, run) for group in grouped for run in group.runs]
    return {
        "scores": _csv(_flat(asdict(s)) for s in comparison.scores),
        "pairs": _csv(_flat(asdict(p)) for p in comparison.pairs),
        "overall": _csv(_flat({k: v for k, v in asdict(o).items() if k != "curve"}) for o in comparison.overall),
        "overall_curves": _csv(
            {"agent": o.agent, "share": at, "iqm": value, "iqm_interval_low": low, "iqm_interval_high": high}
            for o in comparison.overall
            if o.curve is not None
            for at, value, (low, high) in zip(o.curve.share, o.curve.iqm, o.curve.interval, strict=True)
        ),
        "reached": _csv(
            {"agent": r.agent, "env": r.env, "mark": r.mark, "seeds": r.seeds, "reached": r.reached}
            | {f"median_{clock}": value for clock, value in r.median.items()}
            | {
                f"{end}_{clock}": value[i]
                for clock, value in r.interval.items()
                for i, end in enumerate(("low", "high"))
            }
            for r in first
        ),
        "runs": _csv(
            {
                "agent": label,
                "env": run.env,
                "seed": run.seed,
                "score": None if run.evaluation is None else run.evaluation.mean,
                "agent_steps": run.agent_steps,
                "frames": run.frames,
                "updates": run.updates,
                "episodes": run.episodes,
                "seconds": run.seconds,
                "cpu_seconds": run.cpu_seconds,
                "joules": run.joules,
                "protocol": str(run.protocol),
                "protocol_hash": run.protocol.hash,
                "settings_hash": run.settings_hash,
                "folder": str(run.folder),
            }
            for label, run in runs
        ),
        "settings": _csv(_settings(run) for _, run in runs),
        "curves": _csv(
            {"agent": label, "env": run.env, "seed": run.seed, **vars(point)}
            for label, run in runs
            for point in run.curve
        ),
    }


def _settings(run: RunSummary) -> dict[str, Any]:
    """The run's folder, and all settings as they were written down, lists and tables as JSON; none that are damaged."""
    try:
        table = written(run.folder)
    except (UserError, *DAMAGED):
        table = {}
    told = {f"{section}.{name}": value for section, fields in table.items() for name, value in fields.items()}
    return {"folder": str(run.folder)} | {
        name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in told.items()
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals as two columns; what is a list or a table of its own is left to the JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("interval"):
            flat |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif not isinstance(value, list | dict):
            flat[name] = value
    return flat


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """With a header, empty where there is nothing; a name that a spreadsheet would reckon with is quoted for it."""
    text, table = io.StringIO(), list(rows)
    columns = dict.fromkeys(name for row in table for name in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    if table:
        writer.writeheader()
    for row in table:
        writer.writerow({k: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@\t\r" and v else v for k, v in row.items()})
    return text.getvalue()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[_plain(cell) for cell in line] for line in [head, *rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(head), *lines[1:]])


def _plain(text: str) -> str:
    """On one line, with nothing that Markdown or HTML would take for more than text."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$])", r"\\\1", re.sub(r"\s+", " ", text).replace("&", "&amp;"))
