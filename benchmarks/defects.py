"""What sees a mistake before it costs a week: types, shapes, a dummy batch, a learning test, or the fast tests?

python benchmarks/defects.py [--faults N] [--jobs 2] [--json FILE] [--page FILE]

The planted faults (faults.toml) in what DQN's family is made of, of those that were planted only after the tests of
then were written; the first N of an order drawn with a fixed seed, or all. Each is planted alone in a copy of the tree
and shown to

types: mypy, strict, as `make check` runs it; caught where it says something.
shapes: contracts on the shapes and kinds of arrays, while each agent of the family trains for 400 steps (shapes.py).
probe: the dummy batch that every run of the family sees before training, for all its agents on four environments.
learning: `dqn` and `rainbow` on Catch at default settings, one seed each that gets to 0.95 without a fault; caught
    where one does not, or ends with an error.
tests: the fast tests of the module as they were when the fault was first planted (`at_first`).

What is asked, and by which rule, stands in `QUESTIONS`: exact binomial intervals, for all three together. Without a
fault nothing may be caught. Two hours of two cores; FILE is written after every fault, and the same command goes on
with it, if the code is the same. The page is made of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from faults import Fault, copy_tree, load

from qladder.runners.progress import say
from qladder.runners.report import page, write_page
from qladder.runners.run_folder import provenance, write_json

FILES = {
    "agents/dqn.py", "agents/objective.py", "agents/values.py", "agents/td.py", "agents/layers.py",
    "agents/networks.py", "agents/descent.py", "agents/optimizers.py", "agents/exploration.py", "agents/schedules.py",
    "replay/frames.py", "replay/ring.py",
    "replay/recorder.py", "replay/returns.py", "replay/priorities.py", "replay/store.py",
}  # fmt: skip
PROBE = "tests/test_probe.py::test_agents_pass_and_nothing_of_them_changes"
LEARNT = 0.95
SEEDS = {"dqn": 0, "rainbow": 0}
QUESTIONS = (
    ("checks", "Before training, types, shapes and the dummy batch together see more than half of the faults."),
    ("learning", "A learning test misses more than half of them."),
    ("tests", "The fast tests see more: of the faults that they or a learning test see alone, more than half."),
)
ERROR = 0.05  # of a single wrong verdict among these
PAGE = Path(__file__).with_name("defects.html")
LIMIT = 600  # seconds of one run


def types(copy: Path) -> str:
    """What mypy says first; empty where it says nothing."""
    found = _run(copy, ["-m", "mypy"])
    return "" if found.returncode == 0 else found.stdout.splitlines()[0]


def shapes(copy: Path) -> str:
    """The first contract that does not hold, or why training ends."""
    found = _run(copy, ["benchmarks/shapes.py"])
    return "" if found.returncode == 0 else _last(found.stderr)


def probe(copy: Path) -> str:
    """The first agent that does not pass, or why none can be made."""
    found = _run(copy, ["-m", "pytest", "-x", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", PROBE])
    return "" if found.returncode == 0 else _last(found.stdout)


def learning(copy: Path) -> str:
    """The agent that learns too little, and how much."""
    for agent, seed in SEEDS.items():
        with tempfile.TemporaryDirectory(prefix="qladder-run-") as out:
            train = ["-m", "qladder.runners", "train", agent, "qladder/Catch-v0", f"--seed={seed}", f"--out={out}"]
            found = _run(copy, [*train, "--json"])
        if found.returncode:
            return f"{agent}: {_last(found.stderr)}"
        score = json.loads(found.stdout)["evaluation"]["mean"]
        if not score >= LEARNT:
            return f"{agent}: {score}"
    return ""


ARMS: dict[str, Callable[[Path], str]] = {"types": types, "shapes": shapes, "probe": probe, "learning": learning}


def _run(copy: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(copy / ".import"), "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"more than {LIMIT} seconds")


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("=")]
    told = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (told or lines or ["no word"])[-1][:300]


def look(fault: Fault | None, template: Path) -> dict[str, Any]:
    """What each arm says of one fault, and after how many seconds."""
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="qladder-defect-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(template, copy, symlinks=True)
        if fault is not None:
            fault.plant(copy)
        for name, arm in ARMS.items():
            began = time.monotonic()
            told[name] = {"says": arm(copy), "seconds": round(time.monotonic() - began, 1)}
    return told


def interval(found: int, of: int, error: float = ERROR) -> tuple[float, float]:
    """Where a share lies of which `found` of `of` were seen: the exact interval (Clopper and Pearson 1934)."""

    def share_at(tail: Callable[[float], float]) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle) < error / 2 else (low, middle)
        return low

    def at_least(k: int, p: float) -> float:
        return sum(math.comb(of, i) * p**i * (1 - p) ** (of - i) for i in range(k, of + 1))

    low = share_at(lambda p: at_least(found, p)) if found else 0.0
    high = 1 - share_at(lambda q: at_least(of - found, q)) if found < of else 1.0
    return low, high


def verdicts(caught: dict[str, list[bool]]) -> list[dict[str, Any]]:
    """Supported where the whole interval, of all questions together (Bonferroni), is above a half; refuted below."""
    checks = [any(seen) for seen in zip(caught["types"], caught["shapes"], caught["probe"], strict=True)]
    alone = [t for t, other in zip(caught["tests"], caught["learning"], strict=True) if t != other]
    counts = {
        "checks": (sum(checks), len(checks)),
        "learning": (len(checks) - sum(caught["learning"]), len(checks)),
        "tests": (sum(alone), len(alone)),
    }
    found = []
    for name, sentence in QUESTIONS:
        share = counts[name]
        low, high = interval(*share, ERROR / len(QUESTIONS))
        outcome = "supported" if low > 0.5 else "refuted" if high < 0.5 else "undecided"
        found.append({"question": name, "sentence": sentence, "outcome": outcome, "of": share, "interval": (low, high)})
    return found


def card(report: dict[str, Any]) -> str:
    """As a page."""
    faults = f"{report['faults']} of {report['of']} faults"
    overview = f"After the lecture, which says it of types and differentiable programs. {faults}"
    title = "Mistakes can be seen before anything is trained"
    return page(PAGE.read_text(encoding="utf-8"), title=title, overview=overview, **report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faults", type=int, help="how many; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="faults looked at side by side")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--page", type=Path, help="file for the card")
    arguments = parser.parse_args()
    known = [fault for fault in load() if fault.file in FILES and fault.holdout]
    order = np.random.default_rng(0).permutation(len(known))
    faults = [known[i] for i in order[: arguments.faults]]
    report = _begun(arguments.json, "python benchmarks/defects.py")
    with tempfile.TemporaryDirectory(prefix="qladder-defects-") as folder:
        template = Path(folder) / "tree"
        copy_tree(template)
        types(template)  # its cache goes with every copy
        if report["clean"] is None:
            report["clean"] = look(None, template)
            say(f"without a fault: {report['clean']}")
        rows = {row["name"]: row for row in report["rows"]}
        left = [fault for fault in faults if fault.name not in rows]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for fault, told in zip(left, pool.map(lambda f: look(f, template), left), strict=True):
                told["tests"] = {"says": fault.at_first if fault.at_first == "caught" else "", "seconds": None}
                rows[fault.name] = {"name": fault.name, "file": fault.file, "fault": fault.says, **told}
                say(f"{fault.name}: {', '.join(arm for arm in (*ARMS, 'tests') if told[arm]['says']) or 'nobody'}")
                report |= _told(list(rows.values()), report["clean"], len(known))
                if arguments.json is not None:
                    write_json(arguments.json, report)
    if arguments.page is not None:
        write_page(arguments.page, card(report))
    print(json.dumps({key: value for key, value in report.items() if key != "rows"}, indent=1))


def _begun(file: Path | None, command: str) -> dict[str, Any]:
    """The report as far as it is, of this command and this code."""
    fresh: dict[str, Any] = {"command": command, **provenance(), "clean": None, "rows": []}
    if file is not None and file.exists():
        old: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if all(old[name] == fresh[name] for name in ("command", "code")):
            say(f"going on with {len(old['rows'])} faults of {file}")
            return old
    return fresh


def _told(rows: Sequence[dict[str, Any]], clean: dict[str, Any], known: int) -> dict[str, Any]:
    caught = {arm: [bool(row[arm]["says"]) for row in rows] for arm in (*ARMS, "tests")}
    return {
        "faults": len(rows),
        "of": known,
        "false_alarms": {arm: clean[arm]["says"] for arm in ARMS if clean[arm]["says"]},
        "caught": {arm: sum(found) for arm, found in caught.items()},
        "median_seconds": {arm: float(np.median([row[arm]["seconds"] for row in rows])) for arm in ARMS},
        "seconds": sum(row[arm]["seconds"] for row in rows for arm in ARMS),
        "verdicts": verdicts(caught),
        "rows": list(rows),
    }


if __name__ == "__main__":
    main()
