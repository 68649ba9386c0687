"""Keeps finished runs for the record: `python benchmarks/runs.py DIR RUN ...` writes DIR/runs.json and DIR/curves.png.

Of each run: the command, seed, learner, threads, commit and machine, how long it took, the evaluation of its final
weights, its evaluation curve over agent steps and seconds, and what memory it took once its replay was full. Records
that DIR/runs.json has already stay, after the new ones.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from memory import growth

from qladder.runners.pictures import curves_figure
from qladder.runners.run_folder import write_json
from qladder.runners.runs import CurvePoint, FinalEvaluation, ProtocolStamp, RunSummary, find_runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path, nargs="*", help="the runs that the picture shows; by default all")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="DIRs whose records it shows as well")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = [record(run) for run in arguments.runs]
    before = [r for r in kept(arguments.out) if r not in told]
    write_json(arguments.out / "runs.json", {"runs": told + before})
    finished, _ = find_runs(arguments.picture or arguments.runs)
    others = {(r["agent"], r["seed"]): r for at in arguments.beside for r in reversed(kept(at))}  # the first of a seed
    curves_figure([*finished, *(summary(r) for r in others.values())], arguments.out / "curves.png")
    for run in told:
        low, high = run["evaluation"]["interval"]
        minutes = run["seconds"] / 60
        print(f"{run['command']}: {run['evaluation']['mean']:.2f} [{low:.2f}, {high:.2f}], {minutes:.1f} minutes")


def record(run: Path) -> dict[str, Any]:
    """What is kept of a finished run, without the places where it lay."""
    manifest, summary = (json.loads((run / name).read_text()) for name in ("manifest.json", "summary.json"))
    return {
        "command": re.sub(r" --(json|(out|name) \S+)", "", manifest["command_line"]),
        **{name: manifest[name] for name in ("agent", "env", "seed", "protocol", "learner", "threads", "git")},
        **{name: manifest[name] for name in ("versions", "machine")},
        **{name: summary[name] for name in ("agent_steps", "frames", "updates", "seconds", "evaluation", "curve")},
        "memory": growth(run),
    }


def kept(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder."""
    file = folder / "runs.json"
    return json.loads(file.read_text())["runs"] if file.exists() else []


def summary(run: dict[str, Any]) -> RunSummary:
    """As much of a run as its curve needs."""
    names = ("agent", "env", "seed", "agent_steps", "frames", "updates", "seconds")
    return RunSummary(
        **{name: run[name] for name in names},
        family="",
        protocol=ProtocolStamp(**{name: run["protocol"][name] for name in ("name", "version", "hash")}),
        steps=run["agent_steps"],
        episodes=0,
        exit_reason="finished",
        evaluation=FinalEvaluation(**run["evaluation"]),
        curve=tuple(CurvePoint(**point) for point in run["curve"]),
        settings_hash="",
    )


if __name__ == "__main__":
    main()
