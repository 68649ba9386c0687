"""Where a run goes on: from its newest good checkpoint, in the middle of its episodes if that knows them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from qladder.agents.agent import Agent
from qladder.agents.schedules import Clocks
from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.envs.spec import ResumableEnv
from qladder.runners import checkpoint
from qladder.runners.arrays import DAMAGED
from qladder.runners.config import Config, RunConfig
from qladder.runners.loading import restore
from qladder.runners.loop import Begin, Episodes
from qladder.runners.progress import say
from qladder.runners.run_folder import drift, read_manifest
from qladder.runners.segments import Segments


def is_exact(config: Config) -> bool:
    """Whether checkpoints hold all that the run depends on."""
    return config.replay is None or config.run.checkpoint_replay


def newest_state(
    folder: Path, agent: Agent, episodes: Episodes, segments: Segments, run: RunConfig, num_envs: int
) -> dict[str, Any] | None:
    """The state of the newest good checkpoint, which is loaded into `agent` and `episodes`; None where there is none.

    Raises:
        UserError: none is good, or it is past the end that `run` sets, or not of a run like this one.
    """
    found = restore(folder, agent, segments)
    if found is None and checkpoint.checkpoints(folder):
        raise UserError(f"{folder}: none of its checkpoints is good; --out or --name starts a run beside it")
    if found is None and (folder / "summary.json").exists():
        told = "its checkpoints were removed, and nothing is left to go on from"
        other = (
            "--init-from begins another run with its weights" if checkpoint.kept(folder) else "--name starts another"
        )
        raise UserError(f"--resume: {folder}: {told}; {other}")
    if found is None:
        say(f"{folder} holds no checkpoint: starting afresh")
        return None
    path, state = found
    try:
        _check(state)
        episodes.load_state_dict(state["episodes"])
    except DAMAGED as error:
        raise UserError(f"{path} is of another run or another version of qladder: {error}") from error
    reached = state["run"]["agent_steps"]
    if reached >= run.steps + num_envs:
        raise UserError(f"--resume: {folder} is at {reached} agent steps already, past --steps {run.steps}")
    if run.episodes is not None and episodes.count >= run.episodes + num_envs:
        raise UserError(f"--resume: {folder} has {episodes.count} episodes already, past --run.episodes {run.episodes}")
    say(f"going on from {path}")
    return state


def changes(folder: Path, manifest: dict[str, Any], allow_drift: bool) -> list[str]:
    """What has changed since what there is to go on from was saved; UserError where that is not allowed."""
    changed = drift(read_manifest(folder), manifest) if checkpoint.checkpoints(folder) else []
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
    except DAMAGED as error:
        raise UserError(f"--resume: the environments' state is not of such environments: {error}") from error
    except EnvironmentFaultError as error:
        if not allow_drift:
            raise UserError(f"--resume: {error} (--allow-drift begins new episodes)") from error
        changed.append(str(error))
        return None


def record(folder: Path, manifest: dict[str, Any], agent_steps: int, changed: list[str], *, exact: bool) -> None:
    """Has the `manifest` of this process tell when and how the run was begun, and of every time that it was resumed."""
    before = read_manifest(folder)
    told = {"agent_steps": agent_steps, "exact": exact and not changed, "drift": changed}
    commit = (before.get("git") or {}).get("commit")
    manifest["resumed"] = [
        *before.get("resumed", []),
        {**told, "started": manifest["started"], "commit_before": commit},
    ]
    manifest.update({name: before[name] for name in ("started", "command_line", "init_from") if name in before})


def _check(state: dict[str, Any]) -> None:
    """ValueError, or another of `DAMAGED`, where it is not what a run saves."""
    run, mark, env = state["run"], state["time"]["metrics"], state["env"]
    seconds = [state["time"][name] for name in ("seconds", "cpu_seconds", "training_cpu_seconds")]
    latest = run["latest"] or {}
    good = (
        all(type(run[name]) is int and run[name] >= 0 for name in (*Clocks._fields, "begun_at"))
        and all(isinstance(some, float | int) and 0 <= some < math.inf for some in seconds)
        and (type(mark["bytes"]), type(mark["sha256"])) == (int, str)
        and mark["bytes"] >= 0
        and all(type(value) is float for value in latest.values())
        and (env is None or env.keys() == {"state", "first"})
    )
    if not good:
        raise ValueError("its clocks or marks are none")
