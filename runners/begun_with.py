"""A run that begins with what another one has learnt: `run.init_from`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qladder.agents.agent import Agent
from qladder.envs.errors import UserError, out_of_memory
from qladder.runners.arrays import DAMAGED
from qladder.runners.checkpoint import fingerprint
from qladder.runners.config import Config
from qladder.runners.loading import agent_class, good_checkpoints, why
from qladder.runners.run_folder import check_run, no_checkpoint


def begin_with(config: Config, agent: Agent) -> dict[str, Any] | None:
    """Gives a fresh agent what the run `run.init_from` has learnt; what the manifest tells of it. None: it names none.

    Optimizer, replay, schedules and generators are those of a run at its start; a table comes with its visits.

    Raises:
        UserError: it is no run, holds no good checkpoint, or what it learnt is none for this agent.
    """
    if not config.run.init_from:
        return None
    names = _names(config)
    path, theirs = _theirs(config)
    fresh = agent.state_dict()
    fresh.pop("replay", None)
    try:
        taken = {name: theirs[name] for name in names if name in fresh}
        agent.load_state_dict({**fresh, **taken})
    except DAMAGED as error:
        if out_of_memory(error):
            raise
        told = f"what {path} holds is not for {config.agent_name} as set here"
        raise UserError(f"{_asked(config)}: {told}: {why(error)}") from error
    return _stamp(path, theirs, names)


def stamp(config: Config) -> dict[str, Any] | None:
    """What `begin_with` would tell of the run's beginning here and now; raises likewise."""
    return _stamp(*_theirs(config), _names(config)) if config.run.init_from else None


def _stamp(path: Path, theirs: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    learnt = {name: theirs[name] for name in names if name in theirs}
    return {"checkpoint": path.name, "sha256": fingerprint(learnt)}


def _names(config: Config) -> Sequence[str]:
    names: Sequence[str] = getattr(agent_class(config), "learnt", ())
    if not names:
        raise UserError(f"{_asked(config)}: {config.agent_name} does not tell what of its state is `learnt`")
    return names


def _theirs(config: Config) -> tuple[Path, dict[str, Any]]:
    """The newest good checkpoint of the run that is named, and its agent's state."""
    folder = Path(config.run.init_from.replace("{seed}", str(config.run.seed)))
    try:
        check_run(folder)
        for path, state in good_checkpoints(folder):
            return path, state["agent"]
        raise no_checkpoint(folder)
    except UserError as error:
        raise UserError(f"{_asked(config)}: {error}") from error


def _asked(config: Config) -> str:
    return f"run.init_from = {config.run.init_from!r}"
