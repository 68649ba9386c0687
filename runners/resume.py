"""Where a run goes on: from its newest good checkpoint, in the middle of its episodes if that knows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qladder.agents.agent import Agent
from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.envs.spec import ResumableEnv
from qladder.runners import checkpoint
from qladder.runners.config import Config
from qladder.runners.loading import restore
from qladder.runners.loop import Begin
from qladder.runners.progress import say
from qladder.runners.run_folder import drift
from qladder.runners.segments import Segments


def is_exact(config: Config) -> bool:
    """Whether checkpoints hold all that the run depends on."""
    return config.replay is None or config.run.checkpoint_replay


def newest_state(folder: Path, agent: Agent, segments: Segments, steps: int, num_envs: int) -> dict[str, Any] | None:
    """The state of the newest good checkpoint, which is loaded into `agent`; None where there never was one.

    Raises:
        UserError: none is good, or it is past `steps` agent steps.
    """
    found = restore(folder, agent, segments)
    if found is None and checkpoint.checkpoints(folder):
        raise UserError(f"{folder}: none of its checkpoints is good; --out or --name starts a run beside it")
    if found is None:
        say(f"{folder} holds no checkpoint: starting afresh")
        return None
    path, state = found
    reached = state["run"]["agent_steps"]
    if reached >= steps + num_envs:
        raise UserError(f"--resume: {folder} is at {reached} agent steps already, past --steps {steps}")
    say(f"going on from {path}")
    return state


def changes(folder: Path, manifest: dict[str, Any], allow_drift: bool) -> list[str]:
    """What has changed since the run was started or resumed last; UserError where that is not allowed."""
    changed = drift(json.loads((folder / "manifest.json").read_text(encoding="utf-8")), manifest)
    if changed and not allow_drift:
        raise UserError(f"--resume: {'; '.join(changed)}: the run would go on otherwise (--allow-drift lets it)")
    return changed


def begin_again(env: ResumableEnv, saved: dict[str, Any] | None, changed: list[str], allow_drift: bool) -> Begin | None:
    """The environments brought to where they were; None where that is not known.

    Raises:
        UserError: they went elsewhere; with `allow_drift` that is one more thing that has `changed`.
    """
    if saved is None:
        return None
    try:
        return Begin(env.resume(saved["state"]), saved["first"])
    except EnvironmentFaultError as error:
        if not allow_drift:
            raise UserError(f"--resume: {error} (--allow-drift begins new episodes)") from error
        changed.append(str(error))
        return None


def record(folder: Path, agent_steps: int, changed: list[str], *, exact: bool) -> list[dict[str, Any]]:
    """What the manifest tells of every time that the run was resumed."""
    before = json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("resumed", [])
    return [*before, {"agent_steps": agent_steps, "exact": exact and not changed, "drift": changed}]
