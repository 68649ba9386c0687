"""The gate of planted faults: which share of realistic mistakes do the fast tests see?

python benchmarks/faults.py [--only NAME ...] [--jobs 2] [--json FILE]

Each fault of `faults.toml` is planted alone in a private copy of the tree (never in this one), and the test files that
cover its module are run there until the first failure, beginning with the test that saw the fault in the report that is
kept, docs/results/faults.json. Before that the copy must be green without a fault. The exit status is 1 where a fault
survives that nothing explains, does not fit its file any more, cannot be imported, or takes its tests too long: none of
these counts as caught.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from planted import ELSEWHERE, UNIMPORTABLE

from qladder.runners.run_folder import provenance, write_json

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "benchmarks" / "faults.toml"
KEPT = ROOT / "docs" / "results" / "faults.json"
LIMIT = 300  # seconds of one fault's tests
GREEN_LIMIT = 1_800  # seconds of all tests without a fault
TEST_LIMIT = 100  # seconds of one test


@dataclass(frozen=True)
class Fault:
    """A mistake of a few words in one file."""

    name: str
    trap: str  # its place in the list of traps
    says: str  # what is wrong then
    file: str
    old: str  # occurs exactly once in the file
    new: str
    tests: tuple[str, ...]  # files, those of its module unless it names its own
    holdout: int = 0  # the round, from 1, if planted only after all tests for those before it were written
    at_first: str = "caught"  # of the holdout; "survived" where the tests of then did not see it
    survives: str = ""  # why no test can see it

    @property
    def module(self) -> str:
        """What is imported to be sure that the copy is tested."""
        path = Path(self.file)
        return f"qladder.{'.'.join(path.with_suffix('').parts)}" if path.suffix == ".py" else "qladder.configs"

    def plant(self, copy: Path) -> None:
        """Puts the mistake into a copy of the tree.

        Raises:
            ValueError: its old text is not there exactly once, or what results is no Python.
        """
        path = copy / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"fault '{self.name}': its old text occurs {text.count(self.old)} times in {self.file}")
        faulty = text.replace(self.old, self.new)
        if path.suffix == ".py":
            compile(faulty, self.file, "exec")
        path.write_text(faulty, encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """What became of a fault."""

    name: str
    trap: str
    says: str
    file: str
    outcome: str  # caught, survived, or error
    by: str  # the first test that failed
    seconds: float
    holdout: int
    at_first: str
    survives: str


def load(path: Path = DATA) -> list[Fault]:
    """The faults, each with the tests that cover it."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Fault(**{**fault, "tests": tuple(fault.get("tests") or data["covers"][fault["file"]])})
        for fault in data["fault"]
    ]


def copy_tree(to: Path) -> None:
    """What git knows of this tree, or would, with its times."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if os.path.lexists(ROOT / name):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)


class Tester:
    """A process that runs tests in copies of the tree, one after the other (planted.py)."""

    def __init__(self, python: str) -> None:
        settings = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        settings |= {"PYTHONDONTWRITEBYTECODE": "", "COLUMNS": "1000"}  # bytecode is shared; no line is cut
        command = [python, str(ROOT / "benchmarks" / "planted.py")]
        self._process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, copy: Path, module: str, tests: Iterable[str], limit: int = LIMIT) -> tuple[int | None, str]:
        """pytest's exit status (None: out of time) and what it printed."""
        pytest = ["-x", "-q", "-rfE", "--tb=no", "-p", "no:xdist", "-p", "no:cacheprovider", f"--timeout={TEST_LIMIT}"]
        pytest += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported long before
        asked = {"root": str(copy), "module": module, "arguments": [*pytest, *tests], "limit": limit}
        ask, answers = self._process.stdin, self._process.stdout
        assert ask is not None
        assert answers is not None
        print(json.dumps(asked), file=ask, flush=True)
        answer = json.loads(answers.readline())
        return answer["status"], answer["output"]

    def end(self) -> None:
        self._process.communicate()


class Testers:
    """As many testers as jobs, each lent to one thread at a time."""

    def __init__(self, jobs: int, python: str) -> None:
        self._all = [Tester(python) for _ in range(jobs)]
        self._idle: SimpleQueue[Tester] = SimpleQueue()
        for tester in self._all:
            self._idle.put(tester)

    @contextmanager
    def one(self) -> Iterator[Tester]:
        tester = self._idle.get()
        try:
            yield tester
        finally:
            self._idle.put(tester)

    def end(self) -> None:
        for tester in self._all:
            tester.end()


def green(copy: Path, files: Sequence[str], jobs: int, testers: Testers) -> None:
    """Runs the test files without a fault, in the copy that all others are made from, and so have its bytecode.

    Raises:
        SystemExit: one fails.
    """

    def check(some: Sequence[str]) -> None:
        with testers.one() as tester:
            status, output = tester.run(copy, "qladder.agents", some, GREEN_LIMIT)
        if status != 0:
            raise SystemExit(f"{' '.join(some)}: not green without any fault:\n{output}")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(check, filter(None, [files[i :: 2 * jobs] for i in range(2 * jobs)])))


def try_fault(fault: Fault, template: Path, testers: Testers, likely: str | None) -> Outcome:
    """Plants one fault in a copy of its own and runs its tests: the `likely` one, then all, slow ones last."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qladder-fault-") as folder, testers.one() as tester:
        copy = Path(folder) / "tree"
        shutil.copytree(template, copy, symlinks=True)
        fault.plant(copy)
        status, output = (0, "") if likely is None else tester.run(copy, fault.module, [likely])
        if status != 1:  # nothing failed, or that test is no more
            status, output = tester.run(copy, fault.module, fault.tests)
    outcome, by = judge(status, output)
    kept = {k: v for k, v in asdict(fault).items() if k in Outcome.__annotations__}
    return Outcome(**kept, outcome=outcome, by=by, seconds=round(time.monotonic() - began, 1))


def judge(status: int | None, output: str) -> tuple[str, str]:
    """The outcome, and the test that failed or what went wrong."""
    if status == 0:
        return "survived", ""
    if status is None:
        return "error", f"its tests took more than {LIMIT} seconds"
    failed = re.search(r"^(?:FAILED|ERROR) (tests/\S+::.*?)(?: - (.*))?$", output, re.MULTILINE)
    if status == 1 and failed is not None:
        slow = "Timeout (>" in (failed[2] or "")  # pytest's; a test may well wait for a process for less
        return ("error", f"{failed[1]} took more than {TEST_LIMIT} seconds") if slow else ("caught", failed[1])
    reasons = {UNIMPORTABLE: "the module cannot be imported", ELSEWHERE: "another module than the copy's was imported"}
    return "error", reasons.get(status, f"pytest's exit status is {status}: {output[-500:]}")


def report(outcomes: Sequence[Outcome], seconds: float, jobs: int, command: str) -> dict[str, Any]:
    """What is kept as JSON; a fault whose survival is explained still counts as one that survived."""

    def shares(some: Sequence[Outcome]) -> dict[str, Any]:
        caught = sum(o.outcome == "caught" for o in some)
        return {"planted": len(some), "caught": caught, "share": caught / max(len(some), 1)}

    rounds = {n: [o for o in outcomes if o.holdout == n] for n in sorted({o.holdout for o in outcomes} - {0})}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "command": command,
        **provenance(),
        "jobs": jobs,
        "seconds": round(seconds),
        "cpu_seconds": round(children.ru_utime + children.ru_stime),
        **shares(outcomes),
        "holdout": [
            {"round": n, **shares(some), "caught_at_first": sum(o.at_first == "caught" for o in some)}
            for n, some in rounds.items()
        ],
        "survived": {o.name: o.survives for o in outcomes if o.outcome == "survived"},
        "errors": {o.name: o.by for o in outcomes if o.outcome == "error"},
        "faults": [asdict(o) for o in outcomes],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these faults alone")
    parser.add_argument("--jobs", type=int, default=2, help="faults tried at a time")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--python", default=sys.executable, help="what runs the tests, by default this interpreter")
    arguments = parser.parse_args()
    faults = load()
    if unknown := set(arguments.only or ()) - {f.name for f in faults}:
        parser.error(f"no such faults: {', '.join(sorted(unknown))}")
    faults = [f for f in faults if arguments.only is None or f.name in arguments.only]
    began = time.monotonic()
    last = json.loads(KEPT.read_text(encoding="utf-8"))["faults"] if KEPT.is_file() else []
    likely = {f["name"]: f["by"] for f in last if f["outcome"] == "caught"}
    with tempfile.TemporaryDirectory(prefix="qladder-faults-") as folder:
        template = Path(folder) / "tree"
        copy_tree(template)
        files = sorted({file for fault in faults for file in fault.tests})
        testers = Testers(arguments.jobs, arguments.python)
        green(template, files, arguments.jobs, testers)
        print(f"{len(files)} test files are green without a fault, {time.monotonic() - began:.0f} s", flush=True)
        with ThreadPoolExecutor(arguments.jobs) as pool:
            outcomes = []
            for outcome in pool.map(lambda f: try_fault(f, template, testers, likely.get(f.name)), faults):
                outcomes.append(outcome)
                print(f"{outcome.outcome:9}{outcome.seconds:6.1f} s  {outcome.name}  {outcome.by}", flush=True)
        testers.end()
    only = ["--only", *arguments.only] if arguments.only else []
    command = " ".join(["python benchmarks/faults.py", *only, f"--jobs {arguments.jobs}"])
    told = report(outcomes, time.monotonic() - began, arguments.jobs, command)
    if arguments.json is not None:
        write_json(arguments.json, told)
    print(json.dumps({k: told[k] for k in ("planted", "caught", "share", "holdout", "seconds", "cpu_seconds")}))
    for name, why in told["survived"].items():
        print(f"survived: {name}: {why or 'NOT EXPLAINED'}")
    for name, why in told["errors"].items():
        print(f"error: {name}: {why}")
    return int(bool(told["errors"]) or not all(told["survived"].values()))


if __name__ == "__main__":
    sys.exit(main())
