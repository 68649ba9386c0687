"""Runs what is missing of a suite, side by side in processes of their own, then reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qladder.envs.errors import UserError
from qladder.runners.board import write_seeds
from qladder.runners.compare import Comparison, compare
from qladder.runners.crew import Crew, alone
from qladder.runners.groups import groups, scored
from qladder.runners.jobs import PLACE, Job
from qladder.runners.likeness import own_modules
from qladder.runners.memory import available
from qladder.runners.on_ray import RayCrew
from qladder.runners.pictures import curves_figure
from qladder.runners.progress import say
from qladder.runners.report import write_report
from qladder.runners.run_folder import write_json
from qladder.runners.runs import RunSummary, env_name, find_runs
from qladder.runners.settings import Table
from qladder.runners.suite_file import Suite
from qladder.runners.suite_plan import Asked, ask_plan, lines
from qladder.runners.wording import render_table

PROBE = 0.5  # seconds for each task's rate, before a suite begins


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
    name: str,
    *,
    seeds: int | None = None,
    jobs: int | None = None,
    out: str | None = None,
    shard: str = "1/1",
    retries: int = 0,
    executor: Literal["local", "ray"] = "local",
    mix_code: bool = False,
    progress: bool = False,
    trained: dict[str, Path] | None = None,
) -> SuiteResult:
    """Runs what is missing, `jobs` at a time (by default one per core, each with one thread), and writes the report.

    Before anything runs, each agent is made for its environment, and told what all of it will take. Two that are called
    with one `out` share the work: no run is done twice.

    Args:
        shard: I/N: of all runs only every N-th, for one of N machines; the report is of all that are done.
        retries: how often a run that fails is continued, from its last checkpoint.
        executor: `ray` has a Ray cluster do the runs, as many side by side as it has cores, in a folder that its nodes
            share.
        mix_code: takes finished runs as they are though modules of yours that they name have changed since.
        trained: finished runs whose weights those take that are trained alike (`Crew`), where scores are wanted and no
            curves.

    Raises:
        UserError: no such suite, settings in it that do not fit, an `out` that is no folder, or finished runs of other
            code of yours without `mix_code`.
        StoppedError: Ctrl-C or SIGTERM; the runs under way were saved and go on when it is called again.
    """
    asked = Asked(name, seeds, jobs, out, shard)
    check_retries(retries)
    folder = asked.folder
    all_jobs = asked.all_jobs()
    if not mix_code:
        _check_code(all_jobs)
    missing = [job for job in all_jobs if asked.share.holds(job) and not job.done()]
    if progress:
        say(f"{len(all_jobs)} runs, {sum(job.done() for job in all_jobs)} of them done already, in {folder}")
    failed: dict[Path, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    if missing:
        told = ask_plan(asked, PROBE if progress else 0.0)
        if progress and told is not None:
            say("\n".join(lines(told)))
        if progress and trained is not None and (alike := _taking(missing, trained)):
            say(f"less than that: {alike} of them take the weights of others that are trained alike")
        memory = {} if told is None else {task["task"]: task["memory_bytes"] for task in told["tasks"]}
        crew: Crew | RayCrew = Crew(
            asked.side_by_side, memory, available(), retries=retries, progress=progress, trained=trained
        )
        if executor == "ray":
            crew = RayCrew(memory, retries=retries, progress=progress)
        failed = crew.run(missing)
    with alone(folder / PLACE / "report.claim"):
        return _report(asked, all_jobs, failed)


def check_retries(retries: int) -> None:
    """UserError where they are less than none."""
    if retries < 0:
        raise UserError(f"--retries {retries}: must be at least 0")


def _check_code(jobs: list[Job]) -> None:
    other = [job for job in jobs if job.of_other_code()]
    if other:
        runs = "run is" if len(other) == 1 else "runs are"
        names = ", ".join(sorted(own_modules(other[0].config.table())))
        raise UserError(
            f"{len(other)} finished {runs} of other code of yours ({names}) than lies there now, such as "
            f"{other[0].folder}: --out FOLDER begins anew, --mix-code takes them as they are"
        )


def _taking(missing: list[Job], trained: Mapping[str, Path]) -> int:
    """How many need no training."""
    may = [job for job in missing if job.may_take]
    there = trained.keys() | {job.training for job in missing if not job.may_take}
    return len(may) - len({job.training for job in may} - there)


def _report(asked: Asked, all_jobs: list[Job], failed: dict[Path, str]) -> SuiteResult:
    """Of all that are done, whoever did them."""
    suite, folder, name = asked.suite, asked.folder, asked.name
    finished = [job for job in all_jobs if job.done()]
    found = find_runs([job.folder for job in finished]) if finished else None
    own, mixed = suite.own_scales, suite.mix_protocols
    comparison = compare(*found, mix_protocols=mixed, delta=suite.delta, scales=own) if found else compare([])
    title = f"qladder suite {Path(name).stem}"
    marks = {
        env_name(job.config.env.id, job.config.env.variant): job.task.at_least
        for job in all_jobs
        if job.task.at_least is not None
    }
    report = None
    if found:
        report = write_report(
            found.runs,
            folder,
            title,
            mix_protocols=mixed,
            comparison=comparison,
            marks=marks,
            scales=own,
        )
    passed = _passed(suite, all_jobs, {run.folder: run for run in found.runs} if found else {})
    if found:
        if any(run.curve for run in found.runs if scored(run)):
            curves_figure(found.runs, folder / "curves.png", mix_protocols=mixed)
        write_seeds(groups(found.runs, mix_protocols=mixed), folder)
        write_json(folder / "results.json", _results(name, comparison, passed, found.runs))
    return SuiteResult(
        folder, report, comparison, [{"run": str(run), "reason": reason} for run, reason in failed.items()], passed
    )


def _results(name: str, comparison: Comparison, passed: list[Table], runs: list[RunSummary]) -> Table:
    """What is worth keeping of a suite in one small file."""
    manifests = [run.manifest for run in runs if run.manifest]
    git = [m["git"] for m in manifests if m.get("git")]
    machines = [m["machine"] for m in manifests if m.get("machine")]
    return {
        "command": f"qladder suite {Path(name).stem}",
        "commits": sorted({g["commit"] + (" and changes" if g["dirty"] else "") for g in git}),
        "machines": sorted({f"{m['processor']}, {m['cores']} cores" for m in machines}),
        "versions": [dict(t) for t in sorted({tuple(m["versions"].items()) for m in manifests if m.get("versions")})],
        "started": min((m["started"] for m in manifests if m.get("started")), default=None),
        "ended": max((m["ended"] for m in manifests if m.get("ended")), default=None),  # none: killed at the very end
        "passed": passed,
        **comparison.to_json(),
    }


def _passed(suite: Suite, jobs: list[Job], runs: Mapping[Path, RunSummary]) -> list[dict[str, Any]]:
    rows = []
    for task in suite.tasks:
        if task.at_least is None:
            continue
        done = [runs[job.folder] for job in jobs if job.task is task and job.folder in runs]
        scores = [run.evaluation.mean for run in done if run.evaluation is not None]
        passed = sum(score >= task.at_least for score in scores)
        row = {
            "agent": task.label or task.agent,
            "env": task.env,
            "at_least": task.at_least,
            "passed": passed,
            "seeds": len(done),
        }
        rows.append({**row, "scores": scores})
    return rows
