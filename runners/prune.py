"""Room on the disk: of finished runs the final weights stay, replays and whatever a resume would need go."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qladder.envs.errors import StorageError, UserError
from qladder.runners import checkpoint
from qladder.runners.lock import RunLock
from qladder.runners.run_folder import check_links
from qladder.runners.runs import RunSummary, find_runs


def prune(paths: Iterable[Path | str], *, dry_run: bool = False) -> dict[str, Any]:
    """Of every finished run in or below `paths` moves the final weights to `kept/` and removes the checkpoints.

    Such a run is evaluated, watched, compared and begun with as before; it cannot be made longer or verified.

    Returns:
        `runs` (each with `run` and the `bytes` that became free, or with `dry_run` would), `bytes` of all, and
        `left` (each with `run` and `reason`): runs under way, and those whose final weights are not whole.

    Raises:
        UserError: a path that is no folder, or no run in any of them.
        StorageError: the weights cannot be written, or a checkpoint cannot be removed.
    """
    found = find_runs(paths)
    left = [{"run": str(folder), "reason": reason} for folder, reason in found.left_out]
    runs = []
    for run in found.runs:
        if not (run.folder / "checkpoints").exists():
            continue
        try:
            with RunLock(run.folder):
                freed = _pruned(run, dry_run)
        except UserError as error:
            left.append({"run": str(run.folder), "reason": str(error).removeprefix(f"{run.folder}: ")})
            continue
        runs.append({"run": str(run.folder), "bytes": freed})
    return {"runs": runs, "bytes": sum(run["bytes"] for run in runs), "left": left}


def _pruned(run: RunSummary, dry_run: bool) -> int:
    """The bytes of what is not needed any more; UserError where all of it is."""
    if run.exit_reason != "finished":
        raise UserError(f"{run.folder}: {run.exit_reason}")
    check_links(run.folder)
    weights = _final(run)
    place = run.folder / "checkpoints"
    before = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    if not dry_run:
        kept = checkpoint.keep(run.folder, run.agent_steps, weights)
        try:
            checkpoint.load(kept)  # before anything is removed
            shutil.rmtree(place)
        except checkpoint.BadCheckpointError as error:
            raise UserError(str(error)) from error
        except OSError as error:
            raise StorageError(f"{error.filename or place} cannot be removed: {error.strerror or error}") from error
    return before


def _final(run: RunSummary) -> dict[str, Any]:
    """What `kept/` holds of the end of a run."""
    for path in checkpoint.checkpoints(run.folder)[:1]:
        try:
            state = checkpoint.load(path, shared=False)
        except checkpoint.BadCheckpointError as error:
            raise UserError(str(error)) from error
        if state["run"]["agent_steps"] == run.agent_steps:
            state["agent"].pop("replay", None)
            return {"agent": state["agent"], "run": state["run"]}
    raise UserError(f"{run.folder}: holds no checkpoint of its end")
