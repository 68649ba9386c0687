"""A run's parts from its settings, and a trained run from its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qladder.agents.agent import Agent
from qladder.envs.errors import UserError, first_line, out_of_memory
from qladder.envs.gym import load_attribute
from qladder.envs.make import make_env
from qladder.envs.spec import EnvSpec, ResumableEnv
from qladder.runners import checkpoint
from qladder.runners.arrays import DAMAGED
from qladder.runners.config import Config, resolve
from qladder.runners.device import set_up_torch
from qladder.runners.evaluation import Policy, evaluate_policy, evaluation_environment
from qladder.runners.progress import say
from qladder.runners.run_folder import check_run, no_checkpoint
from qladder.runners.segments import Segments
from qladder.runners.shipped import agent_entry


def make_environment(config: Config, batched: bool, *, agent_steps: int = 0) -> ResumableEnv:
    """The training environments of a run; anew at `agent_steps`, they draw other episodes than at its start."""
    return make_env(
        config.env.id,
        config.protocol,
        seed=config.run.seed,
        stream=f"env-at-{agent_steps}" if agent_steps else "env",
        batched=batched,
        num_envs=config.env.num_envs,
        kwargs=config.env.kwargs,
        wrappers=config.env.training_wrappers,
        run_seed=config.run.seed,
    )


def make_agent(config: Config, spec: EnvSpec, device: str) -> Agent:
    """A fresh agent with the run's settings and seed.

    Raises:
        UserError: settings that do not fit together or to the environment, or an agent too large for the memory.
    """
    if hasattr(config.agent, "check_run"):
        config.agent.check_run(config.run, spec.num_envs)
    replay = {} if config.replay is None else {"replay": config.replay}
    cls = agent_class(config)
    try:
        return cls(config.agent, spec, seed=config.run.seed, device=device, **replay)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{config.agent_name} on {spec.id} does not fit into memory: {first_line(error)}") from error


def agent_class(config: Config) -> Any:
    """The class of the run's agent."""
    return load_attribute(agent_entry(config.agent_name).cls, "agent")


def restore(
    folder: Path, agent: Agent, segments: Segments | None = None, *, replay: bool = True, at: int | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """Loads the newest good checkpoint into `agent`; which one, and all of its state. None where there is none.

    The `segments` get to know those that it refers to; without `replay` the agent's stays empty. With `at` it is what
    was kept, or saved, at so many agent steps.

    Raises:
        UserError: the checkpoint is good, but not of an agent like this one; none was made `at` those steps.
    """
    for path, state in good_checkpoints(folder, segments, replay=replay, at=at):
        try:
            if not replay:
                state["agent"].pop("replay", None)
            agent.load_state_dict(state["agent"])
            if type(state["run"]["agent_steps"]) is not int:
                raise ValueError(f"agent steps {state['run']['agent_steps']!r}")
        except DAMAGED as error:
            if out_of_memory(error):
                raise
            raise UserError(f"{path} is of other settings or another version of qladder: {why(error)}") from error
        return path, state
    return None


def good_checkpoints(
    folder: Path, segments: Segments | None = None, *, replay: bool = False, at: int | None = None
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The good checkpoints, newest first, and what they hold; of the others it is said that they are not.

    Without `replay` those in `kept/` are among them.

    Raises:
        UserError: there is none `at` so many agent steps.
    """
    paths = checkpoint.checkpoints(folder) if replay else checkpoint.with_kept(folder)
    if at is not None:
        there = sorted({checkpoint.agent_steps_of(path) for path in paths})
        paths = [path for path in paths if checkpoint.agent_steps_of(path) == at]
        if not paths:
            some = f"it has those at {', '.join(f'{steps:,}' for steps in there)}" if there else "it has none"
            raise UserError(f"{folder} has no weights at {at:,} agent steps (run.keep_every); {some}")
    for path in paths:
        try:
            state = checkpoint.load(path, segments, shared=replay)
        except checkpoint.BadCheckpointError as error:
            say(f"{error}; trying the one before")
            continue
        yield path, state


def why(error: Exception) -> str:
    """A line on what a state lacks or has too much of; of many such things the first."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    general, *single = str(error).splitlines() or [type(error).__name__]
    return (single[0] if general.endswith(":") and single else general).strip().rstrip(".")


def run_config(folder: Path) -> Config:
    """The settings of a run from its folder; UserError where it is none."""
    check_run(folder)
    return resolve(None, None, {}, folder / "config.toml")


def load(run: Path | str, *, at: int | None = None) -> Policy:
    """The trained agent of a run folder, from its newest good checkpoint: `load(run).act(obs)`.

    Args:
        at: agent steps, to have the weights that were kept there (`run.keep_every`).

    Raises:
        UserError: not a run folder, or no good checkpoint in it.
    """
    return load_run(run, at=at)[1]


def environment(run: Path | str, *, num_envs: int = 1, seed: int = 0) -> ResumableEnv:
    """The environments that a run is evaluated in, as its agent sees them; to be closed by whoever asks.

    Args:
        num_envs: how many; of an agent that takes plain values there is one.

    Raises:
        UserError: not a run folder, or more than one for such an agent.
    """
    config = run_config(Path(run))
    batched = agent_class(config).batched
    if num_envs < 1 or (num_envs > 1 and not batched):
        raise UserError(f"num_envs = {num_envs}: must be {'at least 1' if batched else '1 for ' + config.agent_name}")
    return evaluation_environment(config, batched, seed, "environment", num_envs)


def load_run(run: Path | str, *, at: int | None = None) -> tuple[Config, Policy, int]:
    """A run's settings, its policy, and at how many agent steps the weights were saved."""
    folder = Path(run)
    config = run_config(folder)
    cls = agent_class(config)
    device = set_up_torch(config)
    env = make_environment(config, cls.batched)
    env.close()
    agent = make_agent(config, env.spec, device)
    found = restore(folder, agent, replay=False, at=at)
    if found is None:
        raise no_checkpoint(folder)
    policy = Policy(agent, env.spec.num_actions or 0, config.protocol.evaluation.epsilon, config.run.seed)
    return config, policy, int(found[1]["run"]["agent_steps"])


def evaluate(
    run: Path | str, episodes: int | None = None, seed: int | None = None, *, at: int | None = None
) -> dict[str, Any]:
    """Evaluates a run's newest good weights, or those `at` so many agent steps, by its protocol.

    It is what `qladder evaluate --json` prints.
    """
    if episodes is not None and episodes < 1:
        raise UserError(f"--episodes {episodes}: must be at least 1")
    if seed is not None and seed < 0:
        raise UserError(f"--seed {seed}: must be at least 0")
    config, policy, agent_steps = load_run(run, at=at)
    return evaluate_policy(config, policy, agent_steps=agent_steps, episodes=episodes, seed=seed)
