"""The command line: `qladder COMMAND`, a thin face over the functions of this package."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from qladder.envs.errors import EnvironmentFaultError, UserError, nearest

Json = Annotated[bool, arg(help="Print one JSON object on standard output and nothing else.")]
Out = Annotated[str, arg(help="Folder for what is written.")]

_flags: dict[str, Any] = {}  # --section.field values of this call, taken out before tyro sees the arguments


def train(
    agent: Positional[str | None] = None,
    env: Positional[str | None] = None,
    /,
    *,
    protocol: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    out: Out = "runs",
    name: str | None = None,
    device: str | None = None,
    resume: bool = False,
    config: Path | None = None,
    json: Json = False,
) -> None:
    """Train an agent on an environment, e.g. `qladder train dqn CartPole-v1`.

    Any setting can be given as --SECTION.FIELD VALUE (sections env, agent, replay, run);
    `qladder train AGENT ENV --help` lists them with their values.

    Args:
        agent: A name from `qladder list agents`, or module:Class.
        env: A Gymnasium id, or module:Id-v0.
        protocol: A name from `qladder list protocols`; by default that of the environment's family.
        steps: Agent steps in all.
        seed: The run's seed; everything random descends from it.
        name: Name of the run's folder in --out; by default agent, environment and seed.
        device: auto, cpu or cuda.
        resume: Go on from the newest good checkpoint of the run.
        config: A TOML file of settings, e.g. a run's config.toml.
    """
    from qladder.runners import training
    from qladder.runners.settings import merge

    short: dict[str, dict[str, Any]] = {
        "run": {"steps": steps, "seed": seed, "device": device},
        "env": {"protocol": protocol},
    }
    given = {section: {k: v for k, v in table.items() if v is not None} for section, table in short.items()}
    settings = merge({k: v for k, v in given.items() if v}, _flags)
    result = training.train(
        agent, env, settings=settings, config=config, out=out, name=name, resume=resume, progress=True
    )
    if json:
        _print_json(result)
    elif result["exit_reason"] == "finished":
        print(f"{result['run']}: {_score(result['evaluation'])} after {result['agent_steps']:,} agent steps")
    else:
        print(
            f"{result['exit_reason']} at {result['agent_steps']:,} agent steps, saved; go on with --resume",
            file=sys.stderr,
        )
    codes = {"finished": 0, "interrupted": 130, "terminated": 143}
    sys.exit(codes[result["exit_reason"]])


def evaluate(
    run: Positional[Path], /, *, episodes: int | None = None, seed: int | None = None, json: Json = False
) -> None:
    """Play a run's newest weights by its protocol and print the score.

    Args:
        run: A run folder.
        episodes: Play this many and score their mean; by default the protocol's number, or the exact return if known.
        seed: Seed of the evaluation; by default the run's.
    """
    from qladder.runners.training import evaluate as job

    result = job(run, episodes=episodes, seed=seed)
    if json:
        _print_json(result)
    else:
        print(_score(result))


def watch(
    run: Positional[Path], /, *, record: Path | None = None, episodes: int = 1, seed: int = 0, json: Json = False
) -> None:
    """Show a run's agent playing, in a window or as a recording.

    Args:
        run: A run folder.
        record: Write FILE.gif or FILE.mp4 instead of opening a window.
        episodes: How many episodes.
        seed: Seed of the episodes.
    """
    from qladder.runners.watch import watch as job

    result = job(run, record=record, episodes=episodes, seed=seed)
    if json:
        _print_json(result)
    else:
        print(f"returns {', '.join(f'{r:g}' for r in result['returns'])}" + (f" -> {record}" if record else ""))


def suite(
    suite: Positional[str],
    /,
    *,
    seeds: int | None = None,
    jobs: int | None = None,
    out: str | None = None,
    json: Json = False,
) -> None:
    """Run every agent, environment and seed of a suite that is not done yet, then write the report.

    Args:
        suite: A name from `qladder list suites`, or a TOML file.
        seeds: How many seeds, from 0; by default the suite's.
        jobs: Runs side by side; by default one per core.
        out: Folder of the runs and the report; by default runs/<suite>.
    """
    from qladder.runners.suite import run_suite

    result = run_suite(suite, seeds=seeds, jobs=jobs, out=out, progress=True)
    if json:
        _print_json(result.to_json())
    else:
        result.print()
    sys.exit(1 if result.failed else 0)


def compare(runs: Positional[list[Path]], /, *, mix_protocols: bool = False, json: Json = False) -> None:
    """Which agent is better, by how much, how sure; from run folders, never trains.

    Args:
        runs: Run folders, or folders of them.
        mix_protocols: Compare runs of different protocols, labelled.
    """
    from rich.console import Console

    from qladder.runners.compare import compare as job
    from qladder.runners.compare import render_table
    from qladder.runners.runs import find_runs

    comparison = job(*find_runs(runs), mix_protocols=mix_protocols)
    if json:
        _print_json({"out": None, **comparison.to_json()})
    else:
        render_table(comparison, Console())


def report(
    folders: Positional[list[Path]], /, *, out: Path | None = None, mix_protocols: bool = False, json: Json = False
) -> None:
    """Write the HTML report of run folders; never trains.

    Args:
        folders: Run folders, or folders of them.
        out: Folder or .html file of the report; by default the first folder.
        mix_protocols: Show runs of different protocols together, labelled.
    """
    from qladder.runners.compare import compare as job
    from qladder.runners.report import write_report
    from qladder.runners.runs import find_runs

    runs, unfinished = find_runs(folders)
    path = write_report(runs, out or folders[0], unfinished=unfinished, mix_protocols=mix_protocols)
    if json:
        comparison = job(runs, unfinished, mix_protocols=mix_protocols)
        _print_json({"out": str(path.parent), "report": str(path), **comparison.to_json()})
    else:
        print(path)


def list_(
    what: Positional[Literal["all", "agents", "envs", "protocols", "suites", "references"]] = "all",
    /,
    *,
    json: Json = False,
) -> None:
    """What there is: agents, environments, protocols, suites, references.

    Args:
        what: Which of them.
    """
    from qladder.runners.listing import listing, print_listing

    if json:
        _print_json(listing(what))
    else:
        print_listing(what)


def solve(env: Positional[str], /, *, json: Json = False) -> None:
    """Exact optimal values and returns of a finite problem, by dynamic programming.

    Args:
        env: A Gymnasium id whose model is known, e.g. FrozenLake-v1; --env.kwargs.NAME VALUE sets its arguments.
    """
    from qladder.runners.solve import solve as job

    result = job(env, _flags)
    if json:
        _print_json(result)
    else:
        limit = f"{result['optimal_return_in_limit']:.6g} within {result['max_episode_steps']} agent steps"
        print(f"{env}: {result['states']} states, {result['actions']} actions")
        print(f"optimal return {result['optimal_return']:.6g}" + (f", {limit}" if result["max_episode_steps"] else ""))


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "watch": watch,
    "suite": suite,
    "compare": compare,
    "report": report,
    "list": list_,
    "solve": solve,
}
DESCRIPTION = (
    "From a Q-table to Rainbow, one rung at a time: train value-based agents under one runner and compare them so that "
    "the result can be trusted."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exit status 0; 1 for a failure on the way; 2 for bad input; 130 and 143 when stopped."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(argv)
    except UserError as error:
        _fail(str(error), 2)
    except EnvironmentFaultError as error:
        _fail(f"{error}; the last checkpoint is intact, --resume goes on from it", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(argv: list[str]) -> None:
    from qladder.runners.settings import parse_flags

    sections = ("env", "agent", "replay", "run")
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise UserError(f"command '{argv[0]}': there is no such command{nearest(argv[0], COMMANDS)} (qladder --help)")
    global _flags
    _flags, rest = parse_flags(argv, sections)
    if _flags and argv[0] not in ("train", "solve"):
        section, table = next(iter(_flags.items()))
        raise UserError(f"--{section}.{next(iter(table))}: qladder {argv[0]} takes no settings")
    if argv[:1] == ["train"] and "--help" in argv and len([a for a in rest[1:] if not a.startswith("-")]) >= 2:
        from qladder.runners.listing import print_settings

        names = [a for a in rest[1:] if not a.startswith("-")]
        print_settings(names[0], names[1], _flags)
        return
    if not argv:
        rest = ["--help"]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command = _parse(rest)
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(errors.getvalue())) from None
        raise
    command()


def _parse(rest: list[str]) -> Callable[[], None]:
    """The command with its arguments bound, not yet run."""
    from functools import partial, wraps

    def bound(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
        @wraps(function)
        def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
            return partial(function, *args, **kwargs)

        return bind

    return tyro.extras.subcommand_cli_from_dict(
        {name: bound(function) for name, function in COMMANDS.items()},
        prog="qladder",
        description=DESCRIPTION,
        args=rest,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _one_line(box: str) -> str:
    """What tyro drew in a box, as one line."""
    text = re.sub(r"[╭╮╰╯│─]+", " ", box).split("For full helptext")[0].split("Argument helptext")[0]
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
    title = re.compile(r"[A-Z][a-z ]+ (error|options|choice|arguments?)")
    line = " ".join(line for line in lines if line and not title.fullmatch(line))
    wrong = re.match(r"Error parsing (\S+): no type matching \{None\}\|(\S+) .*? from \['(.*?)'\]", line)
    if wrong:
        return f"{wrong[1]} '{wrong[3]}': must be {wrong[2]}"
    choice = re.search(r"invalid choice '(.*?)' for argument '(.*?)'.* one of (\(.*\))", line)
    if choice:
        allowed = re.findall("'(.*?)'", choice[3])
        return f"{choice[2]} '{choice[1]}': must be one of {choice[3]}{nearest(choice[1], allowed)}"
    return line


def _score(evaluation: dict[str, Any]) -> str:
    low, high = evaluation["interval"]
    played = f"{evaluation['episodes']} episodes"
    if evaluation["exact"] is not None and evaluation["mean"] == evaluation["exact"]:
        best = evaluation["optimal_return_in_limit"]
        return f"return {evaluation['mean']:.6g} exactly (optimum {best:.6g})"
    human = evaluation["human_normalized"]
    extra = "" if human is None else f", human-normalised {human:.3f}"
    return f"return {evaluation['mean']:.6g} [{low:.6g}, {high:.6g}], IQM {evaluation['iqm']:.6g}, {played}{extra}"


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def _fail(message: str, status: int) -> None:
    print(f"qladder: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
