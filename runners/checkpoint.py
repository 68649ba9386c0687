"""State on disk: a tree of tensors, arrays and numbers that either verifies or is not loaded; no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qladder.envs.errors import DivergedError, StorageError

KEEP = 2


class BadCheckpointError(Exception):
    """A checkpoint that is incomplete or was changed after it was written."""


def save(run: Path, agent_steps: int, state: Mapping[str, Any]) -> Path:
    """Commits `state` as `<run>/checkpoints/step-<agent_steps>`, then drops all but the newest two.

    Written beside, flushed to the disk, hashed, and renamed last: what bears the name is complete.

    Raises:
        DivergedError: a number in it is not finite; nothing was written.
        StorageError: it cannot be written; nothing was.
    """
    parent = run / "checkpoints"
    final = parent / f"step-{agent_steps:012d}"
    if final.exists():
        return final
    arrays: dict[str, Any] = {}
    tree = _flatten(state, arrays)
    for half_written in parent.glob(".writing-*"):
        shutil.rmtree(half_written)
    beside = parent / f".writing-{os.getpid()}"
    try:
        _commit(beside, final, arrays, json.dumps(tree))
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise StorageError(f"{final}: {error.strerror or error}") from error
    for old in checkpoints(run)[KEEP:]:
        shutil.rmtree(old)
    return final


def _commit(beside: Path, final: Path, arrays: Mapping[str, Any], tree: str) -> None:
    beside.mkdir(parents=True)
    np.savez(beside / "arrays.npz", allow_pickle=False, **arrays)
    (beside / "state.json").write_text(tree)
    digests = {p.name: _sha256(p) for p in sorted(beside.iterdir())}
    (beside / "manifest.json").write_text(json.dumps({"sha256": digests}, indent=1))
    for path in [*beside.iterdir(), beside]:
        _fsync(path)
    beside.rename(final)
    _fsync(final.parent)


def checkpoints(run: Path) -> list[Path]:
    """The committed checkpoints of a run, newest first."""
    return sorted((run / "checkpoints").glob("step-*"), reverse=True)


def drop_after(run: Path, agent_steps: int) -> None:
    """Removes the checkpoints later than `agent_steps`: damaged ones, which must not count as the newest two."""
    for path in checkpoints(run):
        if int(path.name.removeprefix("step-")) > agent_steps:
            shutil.rmtree(path)


def load(checkpoint: Path) -> dict[str, Any]:
    """The state of a checkpoint, verified before anything of it is used.

    Raises:
        BadCheckpointError: a file is missing, unreadable, or not the one that was written.
    """
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        for name, digest in manifest["sha256"].items():
            if _sha256(checkpoint / name) != digest:
                raise BadCheckpointError(f"{checkpoint / name} is not the file that was written (SHA-256 differs)")
        tree = json.loads((checkpoint / "state.json").read_text())
        with np.load(checkpoint / "arrays.npz", allow_pickle=False) as arrays:
            return _restore(tree, arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadCheckpointError(f"{checkpoint}: {error}") from error


def _flatten(value: Any, arrays: dict[str, Any], where: str = "state") -> Any:
    if isinstance(value, Mapping):
        return {str(k): _flatten(v, arrays, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten(v, arrays, where) for v in value]
    if hasattr(value, "detach"):
        return {"$tensor": _keep(value.detach().cpu().numpy(), arrays, where)}
    if isinstance(value, np.ndarray):
        return {"$array": _keep(value, arrays, where)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint holds tensors, arrays, numbers and strings, not {type(value).__name__}")


def _keep(array: Any, arrays: dict[str, Any], where: str) -> str:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DivergedError(f"{where} {list(array.shape)} holds a number that is not finite: no checkpoint was written")
    name = f"a{len(arrays)}"
    arrays[name] = array
    return name


def _restore(tree: Any, arrays: Any) -> Any:
    if isinstance(tree, list):
        return [_restore(v, arrays) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if "$array" in tree:
        return arrays[tree["$array"]]
    if "$tensor" in tree:
        import torch

        return torch.from_numpy(arrays[tree["$tensor"]])
    return {k: _restore(v, arrays) for k, v in tree.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
