"""Room on the disk: of finished runs the final weights stay, replays and whatever a resume would need go."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qladder.envs.errors import StorageError, UserError
from qladder.runners import checkpoint
from qladder.runners.lock import RunLock
from qladder.runners.run_folder import check_links
from qladder.runners.runs import RunSummary, find_runs, read_run

GOING = ".pruned"
"""The folder of a run's checkpoints while they are removed."""


def prune(paths: Iterable[Path | str], *, dry_run: bool = False) -> dict[str, Any]:
    """Of every finished run in or below `paths` moves the final weights to `kept/` and removes the checkpoints.

    Such a run is evaluated, watched, compared and begun with as before; it cannot be made longer or verified. What a
    killed process left of its removal is removed too.

    Returns:
        `runs` (each with `run` and the `bytes` of what was removed, or with `dry_run` would be), `bytes` of all, and
        `left` (each with `run` and `reason`): runs under way, those whose final weights are not whole, and those whose
        files cannot be written.

    Raises:
        UserError: a path that is no folder, or no run in any of them.
    """
    found = find_runs(paths)
    left = [{"run": str(folder), "reason": reason} for folder, reason in found.left_out]
    runs = []
    for run in found.runs:
        places = [place for name in ("checkpoints", GOING) if (place := run.folder / name).exists()]
        if not places:
            continue
        try:
            with contextlib.nullcontext() if dry_run else RunLock(run.folder):
                removed = _pruned(run.folder, places, dry_run)
            runs.append({"run": str(run.folder), "bytes": removed})
        except (UserError, StorageError) as error:
            left.append({"run": str(run.folder), "reason": str(error).removeprefix(f"{run.folder}: ")})
        except OSError as error:
            left.append({"run": str(run.folder), "reason": f"{error.filename}: {error.strerror}"})
    return {"runs": runs, "bytes": sum(run["bytes"] for run in runs), "left": left}


def _pruned(folder: Path, places: list[Path], dry_run: bool) -> int:
    """The bytes in `places`, which are not needed any more; UserError where they are."""
    run = read_run(folder)  # while nobody else is at work
    if run.exit_reason != "finished":
        raise UserError(f"{folder}: {run.exit_reason}")
    check_links(folder)
    size = sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())
    if (folder / "checkpoints") in places:
        weights = _final(run)
        if not dry_run:
            _check(checkpoint.keep(folder, run.agent_steps, weights))  # before anything is removed
            if (folder / GOING) in places:
                shutil.rmtree(folder / GOING)
            (folder / "checkpoints").rename(folder / GOING)  # at once, so that nobody meets a part of them
    if not dry_run:
        shutil.rmtree(folder / GOING)
    return size


def _check(path: Path) -> dict[str, Any]:
    try:
        return checkpoint.load(path, shared=False)
    except checkpoint.BadCheckpointError as error:
        raise UserError(str(error)) from error


def _final(run: RunSummary) -> dict[str, Any]:
    """What `kept/` holds of the end of a run."""
    for path in checkpoint.checkpoints(run.folder)[:1]:
        state = _check(path)
        if state["run"]["agent_steps"] == run.agent_steps:
            state["agent"].pop("replay", None)
            return {"agent": state["agent"], "run": state["run"]}
    raise UserError(f"{run.folder}: holds no checkpoint of its end")
