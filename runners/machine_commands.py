"""The commands on what this machine can do: what a run will take, how fast the parts are, whether all is well."""

from __future__ import annotations

import sys
from pathlib import Path

from tyro.conf import Positional

from qladder.envs.errors import UserError
from qladder.runners.command_line import Json, flags, print_json


def plan(
    agent: Positional[str | None] = None,
    env: Positional[str | None] = None,
    /,
    *,
    steps: int | None = None,
    config: Path | None = None,
    seconds: float | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    out: str | None = None,
    shard: str | None = None,
    json: Json = False,
) -> None:
    """Say what a run or a suite will take before it starts: memory, disk, hours.

    `qladder plan AGENT ENV` takes the settings that train takes, `qladder plan SUITE` the flags of suite.

    Args:
        agent: A name from `qladder list agents`, or module:Class; without ENV, a suite.
        env: A Gymnasium id, or module:Id-v0.
        steps: Agent steps in all.
        config: A TOML file of settings, e.g. a run's config.toml, or the name of a preset (qladder list presets).
        seconds: How long a rate is measured; by default 5, for each task of a suite 0.5.
        seeds: Of a suite, how many.
        jobs: Of a suite, runs side by side; by default one per core.
        out: Of a suite, the folder of its runs.
        shard: Of a suite, I/N, one of N parts.
    """
    from qladder.runners.settings import merge

    if seconds is not None and not 0 <= seconds < float("inf"):
        raise UserError(f"--seconds {seconds:g}: must be at least 0")
    of_run = {"--steps": steps, "--config": config, "a setting": flags or None}
    of_suite = {"--seeds": seeds, "--jobs": jobs, "--out": out, "--shard": shard}
    of_whom = of_run if agent is not None and env is None and config is None else of_suite
    if strange := [name for name, value in of_whom.items() if value is not None]:
        whole = (
            "a suite's settings are in its file" if of_whom is of_run else "it goes with a suite: qladder plan SUITE"
        )
        raise UserError(f"{strange[0]}: {whole}")
    if of_whom is of_run:
        from qladder.runners.shipped import agent_names
        from qladder.runners.suite import PROBE
        from qladder.runners.suite_plan import Asked, lines, plan_suite

        if agent in agent_names():
            raise UserError(f"plan {agent}: the environment is missing, e.g. qladder plan {agent} CartPole-v1")
        asked = Asked(str(agent), seeds, jobs, out, "1/1" if shard is None else shard)
        result = plan_suite(asked, PROBE if seconds is None else seconds)
        told = lines(result)
    else:
        from qladder.runners.plan import plan as job
        from qladder.runners.plan import table

        settings = merge({} if steps is None else {"run": {"steps": steps}}, flags)
        result = job(agent, env, settings, config, seconds=5.0 if seconds is None else seconds)
        told = table(result)
    if json:
        print_json(result)
    else:
        print("\n".join(told))


def bench(
    env: Positional[str] = "ALE/Pong-v5",
    /,
    *,
    seconds: float = 2.0,
    rounds: int = 5,
    peers: bool = False,
    json: Json = False,
) -> None:
    """Measure DQN's parts on this machine: environment, acting, sampling, update, the whole loop, the floor.

    Args:
        env: An environment of pictures; settings are taken as train takes them.
        seconds: How long each part is measured, each round.
        rounds: Of how many rounds the medians are.
        peers: Stable-Baselines3's DQN (the extra `peers`) does the same work in turn with qladder's.
    """
    from qladder.runners.bench import bench as job
    from qladder.runners.bench import table

    if not seconds > 0 or rounds < 1:
        raise UserError(f"--seconds {seconds:g} --rounds {rounds}: must be more than 0, and at least 1")
    result = job(env, flags, seconds=seconds, rounds=rounds, peers=peers)
    if json:
        print_json(result)
    else:
        print("\n".join(table(result)))


def doctor(run: Positional[Path | None] = None, /, *, json: Json = False) -> None:
    """Look whether this installation can do its work, and at the state of a run folder; nothing is changed.

    Exit status 1 where something is not as it should be.

    Args:
        run: A run folder.
    """
    from qladder.runners.doctor import doctor as job

    result = job(run)
    if json:
        print_json(result)
    else:
        width = max(len(finding["what"]) for finding in result["findings"])
        for finding in result["findings"]:
            print(f"{'ok ' if finding['good'] else 'BAD'}  {finding['what']:{width}}  {finding['says']}")
    sys.exit(0 if result["healthy"] else 1)
