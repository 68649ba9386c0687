"""State on disk: a tree of tensors, arrays and numbers that either verifies or is not loaded; no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qladder.envs.errors import StorageError
from qladder.replay.types import Versioned
from qladder.runners.arrays import DAMAGED, check_npz, own_file
from qladder.runners.progress import say
from qladder.runners.segments import NAME as SEGMENTS
from qladder.runners.segments import Segments, Stored, check_finite, fsync, sha256

KEEP = 2
FILES = ("arrays.npz", "state.json")
MOST_JSON = 2**26  # bytes
SEGMENT = re.compile(r"\w[\w.-]*\.npz")


class BadCheckpointError(Exception):
    """A checkpoint that is incomplete or was changed after it was written."""


def save(run: Path, agent_steps: int, state: Mapping[str, Any], segments: Segments | None = None) -> Path:
    """Commits `state` as `<run>/checkpoints/step-<agent_steps>`, then drops all but the newest two.

    Written beside, flushed to the disk, hashed, and renamed last: what bears the name is complete. `Versioned` parts go
    to the `segments` that checkpoints share, where they are not written again until they change.

    Raises:
        DivergedError: a number in it is not finite; nothing was written.
        StorageError: it cannot be written; those before it are as they were.
    """
    segments = Segments(run / "checkpoints") if segments is None else segments
    final = run / "checkpoints" / f"step-{agent_steps:012d}"
    if not final.exists():
        _write(final, state, segments)
        _drop_old(run, segments)
    return final


def keep(run: Path, agent_steps: int, state: Mapping[str, Any]) -> Path:
    """Commits `state` as `<run>/kept/step-<agent_steps>`, where it stays; raises as `save`."""
    final = run / "kept" / f"step-{agent_steps:012d}"
    if not final.exists():
        _write(final, state, Segments(run / "kept"))
    return final


def _write(final: Path, state: Mapping[str, Any], segments: Segments) -> None:
    parent = final.parent
    files = _Files(segments)
    beside = parent / f".writing-{os.getpid()}"
    try:
        for half_written in parent.glob(".writing-*"):
            shutil.rmtree(half_written)
        tree = _flatten(state, files)
        segments.commit()
        _commit(beside, final, files, json.dumps(tree))
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise StorageError(f"{final}: {error.strerror or error}") from error


def spool(run: Path, state: Mapping[str, Any], segments: Segments) -> None:
    """Writes what a checkpoint will hold of `state` and has settled already; drops what no checkpoint will ask for.

    Raises:
        DivergedError: as `save`.
        StorageError: it cannot be written.
    """
    try:
        segments.spool(state)
    except OSError as error:
        raise StorageError(f"{run}: {error.strerror or error}") from error
    _drop_old(run, segments)


def _drop_old(run: Path, segments: Segments) -> None:
    """Removes all but the newest two checkpoints, and the segments that these do not refer to.

    What cannot be removed, as a file that somebody reads over a network, or not be read, so that nobody knows what it
    refers to, is told of and tried again after the next one.
    """
    with _tried(run):
        for old in checkpoints(run)[KEEP:]:
            with _tried(old):
                shutil.rmtree(old)
        segments.drop_but({file for path in checkpoints(run) for file in segments_of(path)})


@contextmanager
def _tried(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        say(f"{error.filename or path}: {error.strerror or error}; what is old there stays for now")


class _Files:
    """Where the leaves of a state go that JSON does not hold."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.arrays: dict[str, Any] = {}
        self.shared: dict[str, str] = {}  # segment file -> SHA-256


def _commit(beside: Path, final: Path, files: _Files, tree: str) -> None:
    beside.mkdir(parents=True)
    np.savez(beside / "arrays.npz", allow_pickle=False, **files.arrays)
    (beside / "state.json").write_text(tree)
    digests = {p.name: sha256(p) for p in sorted(beside.iterdir())}
    (beside / "manifest.json").write_text(seal(digests, files.shared))
    for path in [*beside.iterdir(), beside]:
        fsync(path)
    beside.rename(final)
    fsync(final.parent)


def seal(digests: Mapping[str, str], segments: Mapping[str, str]) -> str:
    """The text of a manifest: the files' hashes, and one of these."""
    parts = {"sha256": digests, "segments": segments}
    return json.dumps({**parts, "own": hashlib.sha256(json.dumps(parts).encode()).hexdigest()}, indent=1)


def segments_of(checkpoint: Path) -> dict[str, str]:
    """File names and hashes of the segments that a checkpoint refers to; none where its manifest is damaged.

    Raises:
        OSError: it is there and cannot be read, so that nobody knows what it refers to.
    """
    try:
        return dict(_read_json(checkpoint / "manifest.json")["segments"])
    except DAMAGED:
        return {}


def checkpoints(run: Path) -> list[Path]:
    """The committed checkpoints of a run, newest first."""
    return _committed(run / "checkpoints")


def kept(run: Path) -> list[Path]:
    """What `keep` has committed, newest first."""
    return _committed(run / "kept")


def with_kept(run: Path) -> list[Path]:
    """The checkpoints and what was kept, newest first; of the same agent steps the checkpoint comes first."""
    return sorted([*checkpoints(run), *kept(run)], key=agent_steps_of, reverse=True)


def fingerprint(tree: Any) -> str:
    """A SHA-256 of a state: of numbers and arrays, whatever file they lie in."""
    digest = hashlib.sha256()
    _add(digest.update, "", tree)
    return digest.hexdigest()


def _add(update: Callable[[bytes], None], name: str, leaf: Any) -> None:
    if isinstance(leaf, Mapping):
        for key in sorted(leaf):
            _add(update, f"{name}.{key}", leaf[key])
    elif hasattr(leaf, "shape"):
        array = np.ascontiguousarray(leaf)
        update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    else:
        update(f"{name} {json.dumps(leaf)}\n".encode())


def agent_steps_of(checkpoint: Path) -> int:
    """The agent steps at which a checkpoint was made."""
    return int(checkpoint.name.removeprefix("step-"))


def _committed(place: Path) -> list[Path]:
    found = (p for p in place.glob("step-*") if re.fullmatch(r"step-\d{12,}", p.name))
    return sorted((p for p in found if p.is_dir() and not p.is_symlink()), reverse=True)


def newest_is_good(run: Path) -> bool:
    """Whether the newest checkpoint is whole, segments aside; also where there is none, as where they were removed."""
    return all(is_good(path, shared=False) for path in checkpoints(run)[:1])


def is_good(path: Path, *, shared: bool = True) -> bool:
    """Whether a checkpoint can be loaded, as `load` does; raises as it does where a file cannot be read."""
    try:
        load(path, shared=shared)
    except BadCheckpointError:
        return False
    return True


def drop_after(run: Path, agent_steps: int) -> None:
    """Removes the checkpoints later than `agent_steps`: damaged ones, which must not count as the newest two."""
    for path in (*checkpoints(run), *kept(run)):
        if agent_steps_of(path) > agent_steps:
            shutil.rmtree(path)


def load(checkpoint: Path, segments: Segments | None = None, *, shared: bool = True) -> dict[str, Any]:
    """The state of a checkpoint, verified before anything of it is used; `segments` get to know those it refers to.

    Those are not looked at unless `shared`: for who needs no replay.

    Raises:
        BadCheckpointError: a file is missing, damaged, or not the one that was written.
        StorageError: a file is there and cannot be read.
    """
    try:
        for folder in (checkpoint, checkpoint.parent, checkpoint.parent / SEGMENTS):
            own_file(folder)
        manifest = _read_json(checkpoint / "manifest.json")
        if "own" not in manifest:
            raise ValueError("it was made by another version of qladder")
        if (checkpoint / "manifest.json").read_bytes() != seal(manifest["sha256"], manifest["segments"]).encode():
            raise ValueError("manifest.json is not as it was written")
        for name in FILES:
            _verify(checkpoint / name, manifest["sha256"][name])
        check_npz(checkpoint / "arrays.npz")
        for name, digest in manifest["segments"].items():
            if SEGMENT.fullmatch(name) is None:
                raise ValueError(f"it names a segment '{name[:80]}'")
            if shared:
                _verify(checkpoint.parent / SEGMENTS / name, digest)
                check_npz(checkpoint.parent / SEGMENTS / name)
        tree = _read_json(checkpoint / "state.json")
        found = _Found(checkpoint.parent, manifest["segments"], segments or Segments(checkpoint.parent))
        with np.load(checkpoint / "arrays.npz", allow_pickle=False) as arrays:
            return _restore(tree, arrays, found)
    except DAMAGED as error:
        raise BadCheckpointError(f"{checkpoint}: {type(error).__name__}: {error}") from error
    except OSError as error:
        raise StorageError(f"{checkpoint} cannot be read: {error.strerror or error}") from error


def _read_json(path: Path) -> Any:
    if own_file(path).stat().st_size > MOST_JSON:
        raise ValueError(f"{path.name} is larger than {MOST_JSON:,} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def _verify(path: Path, digest: str) -> None:
    if sha256(own_file(path)) != digest:
        raise BadCheckpointError(f"{path} is not the file that was written (SHA-256 differs)")


def _flatten(value: Any, files: _Files, where: str = "state") -> Any:
    if isinstance(value, Versioned):
        told = files.segments.keep(where.removeprefix("state."), value)
        files.shared[told["file"]] = told["sha256"]
        return {"$segment": told}
    if isinstance(value, Mapping):
        return {str(k): _flatten(v, files, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten(v, files, where) for v in value]
    if hasattr(value, "detach"):
        return {"$tensor": _keep(value.detach().cpu().numpy(), files.arrays, where)}
    if isinstance(value, np.ndarray):
        return {"$array": _keep(value, files.arrays, where)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint holds tensors, arrays, numbers and strings, not {type(value).__name__}")


def _keep(array: Any, arrays: dict[str, Any], where: str) -> str:
    check_finite(where, array)
    name = f"a{len(arrays)}"
    arrays[name] = array
    return name


class _Found(NamedTuple):
    """Where the segments of a checkpoint are, and who gets to know them."""

    parent: Path
    hashes: Mapping[str, str]
    segments: Segments


def _restore(tree: Any, arrays: Any, found: _Found) -> Any:
    if isinstance(tree, list):
        return [_restore(v, arrays, found) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if "$segment" in tree:
        told = tree["$segment"]
        if found.hashes[told["file"]] != told["sha256"]:
            raise ValueError(f"segment {told['file']} of another hash than was verified")
        found.segments.know(told)
        return Versioned(version=told["version"], settled=True, arrays=Stored(found.parent / SEGMENTS / told["file"]))
    if "$array" in tree:
        return arrays[tree["$array"]]
    if "$tensor" in tree:
        import torch

        return torch.from_numpy(arrays[tree["$tensor"]])
    return {k: _restore(v, arrays, found) for k, v in tree.items()}
