"""What the missing runs of a suite will take; an agent that does not fit its environment is found before any of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.runners.config import Config
from qladder.runners.jobs import BAD_INPUT, Job, Shard, jobs_of, single_threaded
from qladder.runners.memory import available
from qladder.runners.plan import plan_run
from qladder.runners.progress import duration, say
from qladder.runners.suite_file import Suite, load_suite

PATIENCE = 120.0
"""Seconds for a plan, and a sixth of it more for each task: else an environment hangs."""


@dataclass(frozen=True)
class Asked:
    """Which runs of a suite, where, and how many at a time; as on the command line."""

    name: str
    seeds: int | None = None
    jobs: int | None = None
    out: str | None = None
    shard: str = "1/1"

    def __post_init__(self) -> None:
        for flag, value in (("--seeds", self.seeds), ("--jobs", self.jobs)):
            if value is not None and value < 1:
                raise UserError(f"{flag} {value}: must be at least 1")
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--out {self.folder}: is a file, not a folder")

    @cached_property
    def suite(self) -> Suite:
        return load_suite(self.name)

    @property
    def folder(self) -> Path:
        """Of the runs and the report."""
        return Path(self.out) if self.out is not None else Path("runs") / Path(self.name).stem

    @property
    def share(self) -> Shard:
        """What is to be done here."""
        return Shard.read(self.shard)

    @property
    def side_by_side(self) -> int:
        return self.jobs or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    def all_jobs(self) -> list[Job]:
        """Of all shards."""
        return jobs_of(self.suite, self.folder, self.seeds)


def plan_suite(asked: Asked, seconds: float) -> dict[str, Any]:
    """What `qladder plan SUITE --json` prints.

    Each task's rate is that of its runs that are done, else from a probe of so many seconds; without, where 0.

    Raises:
        UserError: an agent and an environment that do not go together, or a replay that does not fit.
    """
    jobs = asked.all_jobs()
    missing = [job for job in jobs if asked.share.holds(job) and not job.done()]
    tasks = []
    for number in dict.fromkeys(job.number for job in missing):
        left = [job for job in missing if job.number == number]
        known = [_seconds(job) for job in jobs if job.number == number and job.done()]
        tasks.append(_task(left, known, seconds))
    hours = [task["hours"] * task["runs"] for task in tasks if task["hours"] is not None]
    longest = max((task["hours"] or 0.0 for task in tasks), default=0.0)
    memory = sorted((task["memory_bytes"] for task in tasks for _ in range(task["runs"])), reverse=True)
    return {
        "suite": asked.name,
        "runs": len(jobs),
        "missing": len(missing),
        "side_by_side": asked.side_by_side,
        "tasks": tasks,
        "hours": max(sum(hours) / asked.side_by_side, longest) if len(hours) == len(tasks) else None,
        "memory_bytes": sum(memory[: asked.side_by_side]),
        "available_bytes": available(),
        "disk_bytes": sum(task["disk_bytes"] * task["runs"] for task in tasks),
    }


def ask_plan(asked: Asked, seconds: float) -> dict[str, Any] | None:
    """`plan_suite` in a process of its own, which gives its memory back; None where an environment hangs or crashes it.

    Raises:
        UserError: as `plan_suite`.
    """
    command = [sys.executable, "-m", "qladder.runners", "plan", asked.name, "--seconds", str(seconds), "--json"]
    for flag in ("seeds", "jobs", "out", "shard"):
        if (value := getattr(asked, flag)) is not None:
            command += [f"--{flag}", str(value)]
    environment, limit = {**os.environ, **single_threaded()}, PATIENCE + len(asked.suite.tasks) * PATIENCE / 6
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        say(f"no plan of {asked.name}: it took more than {limit:.0f} seconds")
        return None
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    if done.returncode == BAD_INPUT:
        raise UserError(last.removeprefix("qladder: "))
    if done.returncode:
        say(f"no plan of {asked.name}, status {done.returncode}: {last}")
        return None
    return dict(json.loads(done.stdout))


def lines(told: dict[str, Any]) -> list[str]:
    """What `qladder plan SUITE` prints."""
    free, hours = told["available_bytes"], told["hours"]
    rows = [
        f"{task['runs']:>5} x {task['agent']} on {task['env']}: "
        + ("time not known beforehand" if task["hours"] is None else f"{duration(task['hours'] * 3600)} each")
        for task in told["tasks"]
    ]
    every = f"{told['missing']} of {told['runs']} runs to do, {told['side_by_side']} side by side"
    return [
        *rows,
        every + ("" if hours is None else f": about {duration(hours * 3600)}, evaluations not counted"),
        f"memory {told['memory_bytes'] / 1e9:.1f} GB" + ("" if free is None else f" of {free / 1e9:.1f} free")
        + f", disk {told['disk_bytes'] / 1e9:.2f} GB",
    ]  # fmt: skip


def _task(left: list[Job], known: list[float], seconds: float) -> dict[str, Any]:
    job = left[0]
    config: Config = job.config
    try:
        try:
            told = plan_run(config, 0.0 if known else seconds)
        except EnvironmentFaultError:  # its run will say so; others go on
            told = plan_run(config, 0.0)
    except UserError as error:
        raise UserError(f"suite task {job.number}, {config.agent_name} on {config.env.id}: {error}") from None
    return {
        "task": job.number,
        "agent": config.label,
        "env": config.env.id,
        "runs": len(left),
        "hours": median(known) / 3600 if known else told["hours"],
        "memory_bytes": told["process_bytes"],
        "disk_bytes": told["disk_bytes"],
    }


def _seconds(job: Job) -> float:
    return float(json.loads((job.folder / "summary.json").read_text(encoding="utf-8"))["seconds"])
