"""What a run will take: memory, disk and hours, from counts and a probe of a few seconds; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from qladder.agents.agent import Agent
from qladder.agents.schedules import Schedule
from qladder.envs.spec import EnvSpec
from qladder.replay.frames import EXPECTED_RATIO
from qladder.replay.sequences import SequenceConfig
from qladder.runners import checkpoint
from qladder.runners.config import Config, resolve
from qladder.runners.device import free_for_replay, set_up_torch
from qladder.runners.loading import agent_class, make_agent, make_environment
from qladder.runners.loop import Ratio, interact
from qladder.runners.memory import check_replay
from qladder.runners.progress import duration

PYTHON, TORCH = 100 * 2**20, 400 * 2**20
"""Bytes of a process with a table or a linear agent, or a network, beside its replay and its environments' own."""


def plan(
    agent: str | None,
    env: str | None,
    settings: Mapping[str, Any] | None = None,
    config: Path | None = None,
    *,
    seconds: float = 5.0,
) -> dict[str, Any]:
    """What `qladder plan AGENT ENV --json` prints: `plan_run` of these settings."""
    return plan_run(resolve(agent, env, settings or {}, config), seconds)


def plan_run(resolved: Config, seconds: float) -> dict[str, Any]:
    """What a run takes.

    `hours` are of training, evaluations not counted. Where a number of episodes ends the run they are reckoned with
    episodes as long as those of the probe; None where it saw none end.

    The probe explores as the run does at its end, learns at the run's ratio, and lasts `seconds` for the rate; there is
    none, and neither rate nor hours, where they are 0.

    Raises:
        UserError: settings that do not fit, or a replay that does not.
    """
    cls = agent_class(resolved)
    device = set_up_torch(resolved)
    environment = make_environment(resolved, cls.batched)
    try:
        size, free = getattr(resolved.agent, "state_size", 0), free_for_replay(resolved, device)
        replay_bytes = check_replay(resolved.replay, environment.spec, state_size=size, limit=free)
        made = make_agent(_late(resolved), environment.spec, device)
        state_bytes = _bytes({k: v for k, v in made.state_dict().items() if k != "replay"})
        rate, updates, length = _probe(resolved, environment, made, seconds) if seconds else (None, None, None)
    finally:
        environment.close()
    run = resolved.run
    ends = None if run.episodes is None or length is None else run.episodes * length
    steps = run.steps if run.episodes is None else ends if ends is None else min(ends, run.steps)
    saved = _saved_bytes(resolved, environment.spec, replay_bytes) if run.checkpoint_replay else 0
    return {
        "agent": resolved.agent_name,
        "env": resolved.env.id,
        "agent_steps": run.steps,
        "episodes": run.episodes,
        "memory_bytes": replay_bytes,
        "process_bytes": replay_bytes + (TORCH if cls.batched else PYTHON),
        "available_bytes": free,
        "checkpoint_bytes": state_bytes + saved,
        "disk_bytes": state_bytes * (checkpoint.KEEP + 1) + 2 * saved,  # two whole replays at most
        "steps_per_second": rate,
        "updates_per_second": updates,
        "hours": None if rate is None or steps is None else steps / rate / 3600,
        "device": device,
        "learner": getattr(made, "learner", None),
        "threads": run.threads,
    }


def table(told: Mapping[str, Any]) -> list[str]:
    """The lines that `qladder plan` prints."""
    free, learner = told["available_bytes"], told["learner"]
    hours, steps, rate, updates = (told[k] for k in ("hours", "agent_steps", "steps_per_second", "updates_per_second"))
    ends = f"{steps:,} agent steps" if told["episodes"] is None else f"{told['episodes']:,} episodes as at first"
    rated = "" if rate is None else f"{rate:,.0f} agent steps/s, {updates:,.0f} updates/s (from a short probe)"
    lasts = "not known beforehand" if hours is None else f"{duration(hours * 3600)} for {ends}, evaluations not counted"
    return [
        f"{told['agent']} on {told['env']}, {told['device']}" + ("" if learner is None else f", learner {learner}"),
        f"memory  {told['memory_bytes'] / 1e9:.2f} GB of replay"
        + ("" if free is None else f", {free / 1e9:.1f} GB free"),
        f"disk    {told['disk_bytes'] / 1e9:.2f} GB of checkpoints",
        f"rate    {rated or 'not measured'}",
        f"time    {lasts}",
    ]


def _saved_bytes(config: Config, spec: EnvSpec, replay_bytes: int) -> int:
    """Of a replay in a checkpoint, to reckon with: deflating shrinks pictures, unless they are deflated in memory."""
    replay, states = config.replay, 0
    if isinstance(replay, SequenceConfig):
        states = replay.capacity // replay.period * 4 * config.agent.state_size
    pictures = len(spec.obs_shape) == 3 and spec.obs_dtype == "uint8"
    shrunk = pictures and replay is not None and replay.compression == "none"
    return states + (replay_bytes - states) // (EXPECTED_RATIO if shrunk else 1)


def _late(config: Config) -> Config:
    """The same run, exploring as at its end."""
    if not any(f.name == "epsilon" for f in fields(config.agent)):
        return config
    end = config.agent.epsilon.end
    return replace(config, agent=replace(config.agent, epsilon=Schedule(end, end, 0)))


def _probe(config: Config, env: Any, agent: Agent, seconds: float) -> tuple[float, float, float | None]:
    """Agent steps and updates per second, after a warm-up of a fifth of the time; and agent steps per episode.

    From one time of learning to another, so that none is counted in part; where they are as far apart as ten times
    `seconds`, it is not waited for.
    """
    window = 0 if config.replay is None else config.replay.window * env.spec.num_envs
    start = max(window, min(config.run.learning_starts, 50 * env.spec.num_envs))
    ratio = Ratio(start, config.run.update_every, config.run.updates)
    warm_until = begun = None
    before, episodes = (0, 0), 0
    for moment in interact(env, agent, ratio, config.protocol.clip_rewards):
        now = time.monotonic()
        episodes += int(np.sum(moment.time_step.last))
        learnt = moment.metrics is not None or (warm_until is not None and now >= warm_until + 10 * seconds)
        if warm_until is None and moment.agent_steps >= start:
            warm_until = now + seconds / 5
        elif begun is None and warm_until is not None and now >= warm_until and learnt:
            begun, before = now, (moment.agent_steps, moment.updates)
        elif begun is not None and now >= begun + seconds and learnt:
            lasted = now - begun
            steps, updates = moment.agent_steps - before[0], moment.updates - before[1]
            return steps / lasted, updates / lasted, moment.agent_steps / episodes if episodes else None
    raise AssertionError("the loop has no end of its own")


def _bytes(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(_bytes(v) for v in value.values())
    if isinstance(value, np.ndarray):
        return value.nbytes
    return int(value.numel() * value.element_size()) if hasattr(value, "numel") else 8
