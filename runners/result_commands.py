"""The commands that put runs side by side or tell what there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tyro.conf import Positional, UseAppendAction

from qladder.envs.errors import UserError
from qladder.runners.command_line import STATUS, Json, flags, print_json
from qladder.runners.stop import StoppedError


def suite(
    suite: Positional[str],
    /,
    *,
    seeds: int | None = None,
    jobs: int | None = None,
    out: str | None = None,
    shard: str = "1/1",
    retries: int = 0,
    executor: Literal["local", "ray"] = "local",
    mix_code: bool = False,
    json: Json = False,
) -> None:
    """Run every agent, environment and seed of a suite that is not done yet, then write the report.

    What is under way where it is stopped or killed goes on when the same command is given again. Two processes with one
    --out share the work.

    Args:
        suite: A name from `qladder list suites`, or a TOML file.
        seeds: How many seeds; by default the suite's.
        jobs: Runs side by side; by default one per core.
        out: Folder of the runs and the report; by default runs/<suite>.
        shard: I/N, the I-th of N parts of the runs, for one of N machines with a folder in common.
        retries: How often a run that fails is continued from its last checkpoint.
        executor: local: processes on this machine; ray: a Ray cluster (docs/suites.md), with a folder in common.
        mix_code: Take finished runs as they are though modules of yours that they name have changed since.
    """
    from qladder.runners.suite import run_suite

    try:
        result = run_suite(
            suite,
            seeds=seeds,
            jobs=jobs,
            out=out,
            shard=shard,
            retries=retries,
            executor=executor,
            mix_code=mix_code,
            progress=True,
        )
    except StoppedError as stopped:
        print(f"{stopped}: the runs under way are saved; the same command goes on", file=sys.stderr)
        sys.exit(STATUS[str(stopped)])
    if json:
        print_json(result.to_json())
    else:
        result.print()
    sys.exit(1 if result.failed else 0)


def compare(
    runs: Positional[list[Path]],
    /,
    *,
    metric: Literal["score", "area"] = "score",
    over: Literal["agent_steps", "frames", "updates", "seconds", "cpu_seconds"] = "agent_steps",
    delta: float = 0.0,
    mix_protocols: bool = False,
    scales: Path | None = None,
    json: Json = False,
) -> None:
    """Which agent is better, by how much, how sure; from run folders, never trains.

    Args:
        runs: Run folders, or folders of them.
        metric: The evaluation of the final weights, or the area under the curve of all: the mean over a clock.
        over: The clock of the area; seconds, by the wall or of the CPU, are those of training alone.
        delta: The smallest difference of returns that matters; agents that differ by less are equivalent.
        mix_protocols: Compare runs of different protocols, labelled.
        scales: A TOML file whose table [scales] has, of environments that qladder does not know, the returns of random
            play and of a solved task, to compare over several.
    """
    from rich.console import Console

    from qladder.runners.compare import compare as job
    from qladder.runners.runs import find_runs
    from qladder.runners.scales import read_scales
    from qladder.runners.wording import render_table

    _some(runs, "compare RUN RUN")
    _check_delta(delta)
    if over != "agent_steps" and metric != "area":
        raise UserError(f"--over {over}: scores are compared over no clock; it goes with --metric area")
    own = None if scales is None else read_scales(scales)
    found = find_runs(runs)
    comparison = job(*found, mix_protocols=mix_protocols, delta=delta, metric=metric, over=over, scales=own)
    if json:
        print_json({"out": None, **comparison.to_json()})
    else:
        render_table(comparison, Console())


def report(
    folders: Positional[list[Path]],
    /,
    *,
    out: Path | None = None,
    delta: float = 0.0,
    mix_protocols: bool = False,
    scales: Path | None = None,
    reference: UseAppendAction[list[str]] = [],  # noqa: B006
    mark: float | None = None,
    gifs: bool = False,
    json: Json = False,
) -> None:
    """Write the HTML report of run folders; never trains.

    Beside the page a folder holds the same as Markdown, CSV, JSON and SVG.

    Args:
        folders: Run folders, or folders of them.
        out: Folder or .html file of the report; by default the first folder.
        delta: The smallest difference of returns that matters; agents that differ by less are equivalent.
        mix_protocols: Show runs of different protocols together, labelled.
        scales: As for compare.
        reference: Published figures to lay over: TABLE or TABLE:AGENT (qladder list references), or a file: Dopamine's
            JSON, DQN Zoo's CSV, monitor.csv, an event file; ENV=FILE where it does not tell its environment.
        gifs: Record an episode of each agent into the page.
        mark: Tell when this return is first reached; by default what counts as solved, or as a human.
    """
    from qladder.runners.compare import compare as job
    from qladder.runners.report import write_report
    from qladder.runners.runs import find_runs
    from qladder.runners.scales import read_scales

    _some(folders, "report DIR")
    if mark is not None and not abs(mark) < float("inf"):
        raise UserError(f"--mark {mark:g}: must be a finite number")
    runs, left_out = find_runs(folders)
    _check_delta(delta)
    own = None if scales is None else read_scales(scales)
    comparison = job(runs, left_out, mix_protocols=mix_protocols, delta=delta, scales=own)
    path = write_report(
        runs,
        out or folders[0],
        left_out=left_out,
        mix_protocols=mix_protocols,
        comparison=comparison,
        references=reference,
        gifs=gifs,
        scales=own,
        marks=None if mark is None else {run.env: mark for run in runs},
    )
    if json:
        print_json({"out": str(path.parent), "report": str(path), **comparison.to_json()})
    else:
        print(path)


def list_(
    what: Positional[
        Literal["all", "agents", "networks", "envs", "protocols", "suites", "presets", "references"]
    ] = "all",
    /,
    *,
    json: Json = False,
) -> None:
    """What there is: agents, networks, environments, protocols, suites, presets, references.

    Args:
        what: Which of them.
    """
    from qladder.runners.listing import listing, print_listing

    if json:
        print_json(listing(what))
    else:
        print_listing(what)


def diff(
    a: Positional[str], b: Positional[str], env: Positional[str] = "ALE/Pong-v5", /, *, json: Json = False
) -> None:
    """What differs between two agents, setting by setting.

    Args:
        a: One agent, by its name in `qladder list agents`.
        b: The other agent's name.
        env: The environment whose settings are compared.
    """
    from qladder.runners.diff import diff as job
    from qladder.runners.diff import print_diff

    told = job(a, b, env)
    if json:
        print_json(told)
    else:
        print_diff(told)


def solve(env: Positional[str], /, *, json: Json = False) -> None:
    """Exact optimal values and returns of a finite problem, by dynamic programming.

    Args:
        env: A Gymnasium id whose model is known, e.g. FrozenLake-v1; --env.kwargs.NAME VALUE sets its arguments.
    """
    from qladder.runners.solve import solve as job

    result = job(env, flags)
    if json:
        print_json(result)
    else:
        limit = f"{result['optimal_return_in_limit']:.6g} within {result['max_episode_steps']} agent steps"
        print(f"{env}: {result['states']} states, {result['actions']} actions")
        print(f"optimal return {result['optimal_return']:.6g}" + (f", {limit}" if result["max_episode_steps"] else ""))


def _check_delta(delta: float) -> None:
    if not 0 <= delta < float("inf"):
        raise UserError(f"--delta {delta:g}: must be a number of at least 0")


def _some(folders: list[Path], usage: str) -> None:
    if not folders:
        raise UserError(f"run folders are missing: qladder {usage} ...")
