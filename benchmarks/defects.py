"""What sees a mistake before it costs a week: types, shapes, a dummy batch, a learning test, or the fast tests?

python benchmarks/defects.py [--faults 60] [--jobs 2] [--json FILE]

A sample of the planted faults (faults.toml) in what DQN's family is made of, drawn with a fixed seed. Each is planted
alone in a copy of the tree and shown to

types: mypy, strict, as `make check` runs it; caught where it says something.
shapes: contracts on the shapes and kinds of arrays, while each agent of the family trains for 400 steps (shapes.py).
probe: the dummy batch that every run of the family sees before training, for all its agents on four environments.
learning: `dqn` and `rainbow` on Catch at default settings, one seed each that gets to 0.95 without a fault; caught
    where one does not, or ends with an error.
tests: the fast tests of the module, as the gate's report has it (docs/results/faults.json).

Pairs are compared by McNemar's exact test. Without a fault nothing may be caught. An hour of two cores and more; FILE
is written after every fault, and the same command goes on with it, if the code is the same.
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
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from faults import KEPT, Fault, copy_tree, load

from qladder.runners.progress import say
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


def mcnemar(one: Sequence[bool], other: Sequence[bool]) -> float:
    """The exact two-sided p value of as unequal a split of those that only one of the two sees."""
    only = sum(a and not b for a, b in zip(one, other, strict=True))
    differ = sum(a != b for a, b in zip(one, other, strict=True))
    tail = sum(math.comb(differ, k) for k in range(min(only, differ - only) + 1)) / 2**differ
    return min(1.0, 2 * tail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faults", type=int, default=60, help="how many")
    parser.add_argument("--jobs", type=int, default=2, help="faults looked at side by side")
    parser.add_argument("--json", type=Path, help="file for the report")
    arguments = parser.parse_args()
    gate = {fault["name"]: fault for fault in json.loads(KEPT.read_text(encoding="utf-8"))["faults"]}
    known = [fault for fault in load() if fault.file in FILES and fault.name in gate]
    chosen = sorted(np.random.default_rng(0).choice(len(known), min(arguments.faults, len(known)), replace=False))
    faults = [known[i] for i in chosen]
    report = _begun(arguments.json, f"python benchmarks/defects.py --faults {arguments.faults}")
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
                told["tests"] = {"says": gate[fault.name]["by"], "seconds": gate[fault.name]["seconds"]}
                rows[fault.name] = {"name": fault.name, "file": fault.file, "fault": fault.says, **told}
                say(f"{fault.name}: {', '.join(arm for arm in (*ARMS, 'tests') if told[arm]['says']) or 'nobody'}")
                report |= _told([rows[f.name] for f in faults if f.name in rows], report["clean"])
                if arguments.json is not None:
                    write_json(arguments.json, report)
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


def _told(rows: Sequence[dict[str, Any]], clean: dict[str, Any]) -> dict[str, Any]:
    arms = [*ARMS, "tests"]
    caught = {arm: [bool(row[arm]["says"]) for row in rows] for arm in arms}
    return {
        "faults": len(rows),
        "false_alarms": {arm: clean[arm]["says"] for arm in ARMS if clean[arm]["says"]},
        "caught": {arm: sum(found) for arm, found in caught.items()},
        "median_seconds": {arm: float(np.median([row[arm]["seconds"] for row in rows])) for arm in arms},
        "before_training": sum(map(any, zip(*(caught[arm] for arm in ("types", "shapes", "probe")), strict=True))),
        "mcnemar": {f"{a} against {b}": mcnemar(caught[a], caught[b]) for a, b in combinations(arms, 2)},
        "rows": list(rows),
    }


if __name__ == "__main__":
    main()
