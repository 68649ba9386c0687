"""The commands on one run: while it lasts and after it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from qladder.envs.errors import UserError
from qladder.runners import command_line
from qladder.runners.command_line import STATUS, Json, Out, print_json, with_flags
from qladder.runners.progress import say


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
    learner: str | None = None,
    resume: bool = False,
    allow_drift: bool = False,
    until_done: bool = False,
    trained_in: Path | None = None,
    init_from: str | None = None,
    config: Path | None = None,
    json: Json = False,
) -> None:
    """Train an agent on an environment, e.g. `qladder train dqn CartPole-v1`.

    Any setting can be given as --SECTION.FIELD VALUE (sections env, agent, replay, run, protocol);
    `qladder train AGENT ENV --help` lists them with their values.

    Args:
        agent: A name from `qladder list agents`, or module:Class.
        env: A Gymnasium id, or module:Id-v0.
        protocol: A name from `qladder list protocols`; by default that of the environment's family.
        steps: Agent steps in all.
        seed: The run's seed; everything random descends from it.
        name: Name of the run's folder in --out; by default agent, environment and seed.
        device: auto, cpu or cuda.
        learner: Arithmetic of a deep agent's updates: auto, eager, cpu-bf16 or cuda-graph.
        resume: Go on from the newest good checkpoint of the run.
        allow_drift: Resume, or take weights, with other versions, threads or hardware too, and record it.
        until_done: Start again from the newest good checkpoint where training dies, at most ten times.
        trained_in: Do not train: evaluate the final weights of this finished run in another way, with --agent.stress,
            --env.eval_kwargs, --env.eval_wrappers or --protocol.evaluation; all other settings are its own.
        init_from: Begin with the weights, or the table, of this run; `{seed}` in its name stands for the seed.
        config: A TOML file of settings, e.g. a run's config.toml, or the name of a preset (qladder list presets).
    """
    from qladder.runners import training
    from qladder.runners.lock import hold_claim

    hold_claim()
    settings = with_flags(
        {
            "run": {"steps": steps, "seed": seed, "device": device, "init_from": init_from},
            "env": {"protocol": protocol},
            "agent": {"learner": learner},
        }
    )
    if until_done and trained_in is not None:
        raise UserError("--until-done with --trained-in: what trains nothing needs no second attempt")
    if until_done:
        from qladder.runners.config import resolve
        from qladder.runners.run_folder import folder_of
        from qladder.runners.until_done import train_until_done

        folder = folder_of(resolve(agent, env, settings, config), out, name)
        ours = ("--until-done", "--until_done", "--resume")
        again = [argument for argument in command_line.arguments if argument not in ours]
        sys.exit(train_until_done(again, folder, resume=resume))
    result = training.train(
        agent,
        env,
        settings=settings,
        config=config,
        out=out,
        name=name,
        resume=resume,
        allow_drift=allow_drift,
        trained_in=trained_in,
        progress=True,
    )
    saved = f" at {result['agent_steps']:,} agent steps, saved; go on with --resume"
    if trained_in is not None:
        saved = "; the same with --resume does it again"
    if json:
        print_json(result)
    elif result["exit_reason"] == "finished":
        print(f"{result['run']}: {_score(result['evaluation'])} after {result['agent_steps']:,} agent steps")
    else:
        say(f"{result['exit_reason']}{saved}")
    sys.exit(STATUS[result["exit_reason"]])


def verify(
    run: Positional[Path], /, *, from_start: bool = False, allow_drift: bool = False, json: Json = False
) -> None:
    """Do a part of a run again and compare it, bit for bit: up to its newest checkpoint from the one before.

    Args:
        run: A run folder.
        from_start: Do all of it again, not from the oldest checkpoint that is kept.
        allow_drift: Even with other versions, threads or hardware than it was made with.
    """
    from qladder.runners.verify import verify as job

    result = job(run, from_start=from_start, allow_drift=allow_drift)
    if json:
        print_json(result)
    else:
        compared, same = result["compared"], "identical" if result["identical"] else "NOT IDENTICAL"
        what = f"agent steps {compared['from']:,} to {compared['to']:,}, {compared['measurements']} measurements"
        print(f"{same}: {what}", *compared["differing"], *compared["drift"], sep="\n  ")
        if compared["evaluations_of_one"]:
            many = f"{compared['evaluations_of_one']} evaluations of one alone are not compared"
            print(f"  {many}: a resume with other --steps or --run.eval-every moved them")
    sys.exit(0 if result["identical"] else 1)


def prune(runs: Positional[list[Path]], /, *, dry_run: bool = False, json: Json = False) -> None:
    """Of finished runs keep the final weights and remove checkpoints and replays.

    They are evaluated, watched, compared and begun with as before, but cannot be made longer or verified.

    Args:
        runs: Run folders, or folders of them.
        dry_run: Change nothing; say how much would be removed.
    """
    from qladder.runners.prune import prune as job

    if not runs:
        raise UserError("prune: run folders are missing, e.g. qladder prune runs")
    result = job(runs, dry_run=dry_run)
    if json:
        print_json(result)
    else:
        for run in result["runs"]:
            print(f"{run['bytes'] / 1e6:10,.1f} MB  {run['run']}")
        for run in result["left"]:
            print(f"{'left':>10}     {run['run']}: {run['reason']}")
        print(f"{result['bytes'] / 1e6:10,.1f} MB {'would be' if dry_run else 'were'} removed")


def evaluate(
    run: Positional[Path],
    /,
    *,
    episodes: int | None = None,
    seed: int | None = None,
    at: int | None = None,
    json: Json = False,
) -> None:
    """Play a run's newest weights by its protocol and print the score.

    Args:
        run: A run folder.
        episodes: Play this many and score their mean; by default the protocol's number, or the exact return if known.
        seed: Seed of the evaluation; by default the run's.
        at: Not the newest weights, but those of so many agent steps, which --run.keep-every has kept.
    """
    from qladder.runners.loading import evaluate as job

    result = job(run, episodes=episodes, seed=seed, at=at)
    if json:
        print_json(result)
    else:
        print(_score(result, sampled=episodes is not None))


def watch(
    run: Positional[Path],
    /,
    *,
    record: Path | None = None,
    episodes: int = 1,
    seed: int = 0,
    at: int | None = None,
    json: Json = False,
) -> None:
    """Show a run's agent playing, in a window or as a recording.

    Args:
        run: A run folder.
        record: Write FILE.gif or FILE.mp4 instead of opening a window.
        episodes: How many episodes.
        seed: Seed of the episodes.
        at: Not with the newest weights, but with those of so many agent steps, which --run.keep-every has kept.
    """
    from qladder.runners.watch import watch as job

    result = job(run, record=record, episodes=episodes, seed=seed, at=at)
    if json:
        print_json(result)
    else:
        print(f"returns {', '.join(f'{r:g}' for r in result['returns'])}" + (f" -> {record}" if record else ""))


def play(
    env: Positional[str],
    /,
    *,
    minutes: float = 10.0,
    episodes: int | None = None,
    who: str = "person",
    rate: float | None = None,
    protocol: str | None = None,
    seed: int | None = None,
    out: Out = "runs",
    name: str | None = None,
    json: Json = False,
) -> None:
    """Play yourself, in a window; leaves a run whose curve stands beside the agents' in `compare` and `report`.

    Any setting of the environment can be given as --env.FIELD VALUE, as for train.

    Args:
        env: A Gymnasium id, or module:Id-v0.
        minutes: How long, at most; closing the window or escape ends it sooner.
        episodes: How many, at most.
        who: What comparisons call you.
        rate: Agent steps a second; by default as fast as the environment is shown, Atari as its console ran.
        protocol: A name from `qladder list protocols`; by default that of the environment's family.
        seed: Of the episodes.
        name: Name of the run's folder in --out; by default your name, environment and seed.
    """
    from qladder.runners.person import play_by_hand

    settings = with_flags({"run": {"episodes": episodes, "seed": seed}, "env": {"protocol": protocol}})
    result = play_by_hand(env, settings=settings, who=who, minutes=minutes, rate=rate, out=out, name=name)
    if json:
        print_json(result)
    else:
        print(f"{result['run']}: {_score(result['evaluation'])} after {result['agent_steps']:,} agent steps")


def _score(evaluation: dict[str, Any] | None, *, sampled: bool = False) -> str:
    if evaluation is None:
        return "no score, as no episode has ended"
    low, high = evaluation["interval"]
    interval = "" if low is None else f" [{low:.6g}, {high:.6g}]"  # one episode has none
    played = f"{evaluation['episodes']} episodes" + " of training" * (evaluation["kind"] == "training")
    if evaluation["exact"] is not None and evaluation["mean"] == evaluation["exact"] and not sampled:
        best = evaluation["optimal_return_in_limit"]
        return f"return {evaluation['mean']:.6g} exactly (optimum {best:.6g})"
    human = evaluation["human_normalized"]
    extra = "" if human is None else f", human-normalised {human:.3f}"
    return f"return {evaluation['mean']:.6g}{interval}, IQM {evaluation['iqm']:.6g}, {played}{extra}"
