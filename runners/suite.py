"""Runs what is missing of a suite, side by side in processes of their own, then reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qladder.envs.errors import UserError
from qladder.runners.compare import Comparison, compare
from qladder.runners.config import Config, resolve
from qladder.runners.figures import curves_figure
from qladder.runners.progress import say
from qladder.runners.report import write_report
from qladder.runners.run_folder import has_settings, run_name, write_json
from qladder.runners.runs import find_runs
from qladder.runners.settings import Table
from qladder.runners.stop import Stop, StoppedError
from qladder.runners.suite_file import Suite, Task, load_suite
from qladder.runners.wording import render_table


@dataclass(frozen=True)
class Job:
    """One run of a suite."""

    task: Task
    seed: int
    config: Config
    folder: Path

    def done(self) -> bool:
        """Whether its folder holds the finished run of just these settings."""
        path = self.folder / "summary.json"
        if not path.is_file():
            return False
        summary = json.loads(path.read_text(encoding="utf-8"))
        return bool(
            summary["exit_reason"] == "finished"
            and summary["steps"] == self.config.run.steps  # config.toml is ahead of it while a run is made longer
            and summary["protocol"]["hash"] == self.config.protocol.hash
            and has_settings(self.folder, self.config)
        )


@dataclass(frozen=True)
class SuiteResult:
    """What a suite left behind."""

    out: Path
    report: Path | None
    comparison: Comparison
    failed: list[dict[str, Any]]
    passed: list[dict[str, Any]]  # agent, env, at_least, passed, seeds; for tasks that name a score

    def to_json(self) -> dict[str, Any]:
        """The object of `qladder suite --json`."""
        report = None if self.report is None else str(self.report)
        failed = [*self.failed, *self.comparison.to_json()["failed"]]
        return {
            **self.comparison.to_json(),
            "out": str(self.out),
            "report": report,
            "passed": self.passed,
            "failed": failed,
        }

    def print(self) -> None:
        """The table of scores, and where the report is."""
        from rich.console import Console

        render_table(self.comparison, Console())
        for row in self.passed:
            print(f"{row['agent']} on {row['env']}: {row['passed']} of {row['seeds']} seeds reach {row['at_least']:g}")
        for row in self.failed:
            print(f"failed: {row['run']}: {row['reason']}")
        print(f"report: {self.report}")


def run_suite(
    name: str, *, seeds: int | None = None, jobs: int | None = None, out: str | None = None, progress: bool = False
) -> SuiteResult:
    """Runs what is missing, `jobs` at a time (by default one per core, each with one thread), and writes the report.

    Raises:
        UserError: no such suite, settings in it that do not fit, or an `out` that is no folder.
        StoppedError: Ctrl-C or SIGTERM; the runs under way were saved and go on when it is called again.
    """
    for flag, value in (("--seeds", seeds), ("--jobs", jobs)):
        if value is not None and value < 1:
            raise UserError(f"{flag} {value}: must be at least 1")
    suite = load_suite(name)
    folder = Path(out) if out is not None else Path("runs") / Path(name).stem
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is a file, not a folder")
    all_jobs = list(_jobs(suite, folder, seeds or suite.seeds))
    missing = [job for job in all_jobs if not job.done()]
    if progress:
        say(f"{len(all_jobs)} runs, {len(all_jobs) - len(missing)} of them done already, in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    failed = _run_all(missing, jobs or os.cpu_count() or 1, progress)
    finished = [job for job in all_jobs if job.done()]
    found = find_runs([job.folder for job in finished]) if finished else None
    comparison = compare(*found) if found else compare([])
    title = f"qladder suite {Path(name).stem}"
    report = write_report(found.runs, folder, title, comparison=comparison) if found else None
    passed = _passed(suite, all_jobs)
    if found:
        curves_figure(found.runs, folder / "curves.png")
        write_json(folder / "results.json", _results(name, comparison, passed, finished))
    return SuiteResult(folder, report, comparison, failed, passed)


def _jobs(suite: Suite, folder: Path, seeds: int) -> Iterator[Job]:
    taken: dict[Path, int] = {}
    for number, task in enumerate(suite.tasks, start=1):
        for seed in range(suite.first_seed, suite.first_seed + seeds):
            config = resolve(task.agent, task.env, task.table(seed))
            job = Job(task, seed, config, folder / run_name(config))
            if taken.setdefault(job.folder, number) != number:
                raise UserError(
                    f"suite tasks {taken[job.folder]} and {number} are both {task.agent} on {task.env}, whose runs "
                    "would share a folder: put one of them into a suite of its own"
                )
            yield job


class _Children:
    """The processes under way; each in a session of its own, so that Ctrl-C reaches them by `stop` alone, once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, command: list[str], **kwargs: Any) -> int:
        """The exit status, -SIGTERM where it was not even begun."""
        with self._lock:
            if self._stopped:
                return -signal.SIGTERM
            child = subprocess.Popen(command, start_new_session=True, **kwargs)
            self._running.add(child)
        status = child.wait()
        with self._lock:
            self._running.discard(child)
        return status

    def stop(self) -> None:
        """Has all of them save and end; nothing is begun any more."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.terminate()


def _run_all(jobs: list[Job], side_by_side: int, progress: bool) -> list[dict[str, Any]]:
    failed = []
    started = time.monotonic()
    children = _Children()
    with ThreadPoolExecutor(side_by_side) as pool, Stop() as stop:
        try:
            futures = {pool.submit(_run_one, job, children): job for job in jobs}
            stop.at_once()
            for done, future in enumerate(as_completed(futures), start=1):
                job = futures[future]
                reason = future.result()
                if reason is not None:
                    failed.append({"run": str(job.folder), "reason": reason})
                if progress:
                    word = "failed" if reason is not None else "done"
                    say(f"{done} of {len(jobs)}: {job.folder.name} {word} ({time.monotonic() - started:.0f} s)")
        except StoppedError:
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
            raise
    return failed


def _run_one(job: Job, children: _Children) -> str | None:
    """Trains in a process of its own; why it failed, or None. A half-done run of the same settings goes on."""
    import tomli_w

    job.folder.parent.mkdir(parents=True, exist_ok=True)
    settings = job.folder.parent / f".{job.folder.name}.toml"
    settings.write_text(tomli_w.dumps(job.config.table()), encoding="utf-8")
    log = job.folder.parent / f".{job.folder.name}.log"
    command = [sys.executable, "-m", "qladder.runners", "train", "--config", str(settings), "--json"]
    command += ["--out", str(job.folder.parent), "--name", job.folder.name]
    if job.folder.exists():
        command.append("--resume")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as output:
        status = children.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    settings.unlink()
    if status == 0:
        log.unlink()
        return None
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit status {status}: {last[-1] if last else 'no output'} (log: {log})"


def _results(name: str, comparison: Comparison, passed: list[Table], finished: list[Job]) -> Table:
    """What is worth keeping of a suite in one small file."""
    manifests = [json.loads((job.folder / "manifest.json").read_text(encoding="utf-8")) for job in finished]
    return {
        "command": f"qladder suite {Path(name).stem}",
        "commits": sorted(
            {m["git"]["commit"] + (" and changes" if m["git"]["dirty"] else "") for m in manifests if m["git"]}
        ),
        "machines": sorted({f"{m['machine']['processor']}, {m['machine']['cores']} cores" for m in manifests}),
        "versions": [dict(t) for t in sorted({tuple(m["versions"].items()) for m in manifests})],
        "started": min(m["started"] for m in manifests),
        "ended": max((m["ended"] for m in manifests if m["ended"]), default=None),  # none: killed at the very end
        "passed": passed,
        **comparison.to_json(),
    }


def _passed(suite: Suite, jobs: list[Job]) -> list[dict[str, Any]]:
    rows = []
    for task in suite.tasks:
        if task.at_least is None:
            continue
        scores = [
            json.loads((job.folder / "summary.json").read_text(encoding="utf-8"))["evaluation"]["mean"]
            for job in jobs
            if job.task is task and job.done()
        ]
        passed = sum(score >= task.at_least for score in scores)
        row = {
            "agent": task.label or task.agent,
            "env": task.env,
            "at_least": task.at_least,
            "passed": passed,
            "seeds": len(scores),
        }
        rows.append({**row, "scores": scores})
    return rows
