"""Arrays that seldom change, each version of them in a file of its own that checkpoints share."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qladder.envs.errors import DivergedError
from qladder.replay.types import Versioned

NAME = "segments"
LEVEL = 3  # of deflate, as in a compressed replay


class Segments:
    """The folder of a run's segments; it remembers what is there, so that nothing is written twice."""

    def __init__(self, checkpoints: Path) -> None:
        self._folder = checkpoints / NAME
        self._there: dict[str, dict[str, Any]] = {}  # name -> what `keep` told
        self._new: list[Path] = []

    def know(self, told: Mapping[str, Any]) -> None:
        """A segment that a checkpoint refers to is there."""
        self._there[told["name"]] = dict(told)

    def keep(self, name: str, part: Versioned) -> dict[str, Any]:
        """Name, version, file and SHA-256 of this version, written if it was not there.

        Raises:
            DivergedError: a number in it is not finite.
            OSError: it cannot be written.
        """
        told = self._there.get(name)
        if told is None or told["version"] != part["version"]:
            self._there[name] = told = self._write(name, part)
        return told

    def spool(self, tree: Any, name: str = "") -> None:
        """Keeps what has settled in a state, so that less is left to write for a checkpoint."""
        if isinstance(tree, Versioned):
            if tree["settled"]:
                self.keep(name, tree)
        elif isinstance(tree, Mapping):
            for key, value in tree.items():
                self.spool(value, f"{name}.{key}" if name else key)

    def commit(self) -> None:
        """Flushes to the disk what is new."""
        for path in [*self._new, *([self._folder] if self._new else [])]:
            fsync(path)
        self._new.clear()

    def drop_but(self, used: set[str]) -> None:
        """Removes the files that neither are `used` nor the latest versions."""
        latest = {told["file"] for told in self._there.values()}
        if self._folder.is_symlink():
            return  # that is no folder of ours
        for path in self._folder.glob("*"):
            if path.name not in used | latest and path.suffix in (".npz", "") and not path.is_dir():
                path.unlink()
                self._new = [new for new in self._new if new != path]

    def _write(self, name: str, part: Versioned) -> dict[str, Any]:
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".writing-{os.getpid()}"
        try:
            self._fill(beside, name, part)
            digest = sha256(beside)
            path = self._folder / f"{name}-{part['version']}-{digest[:12]}.npz"
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        self._new.append(path)
        return {"name": name, "version": part["version"], "file": path.name, "sha256": digest}

    def _fill(self, path: Path, name: str, part: Versioned) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:
            for key, values in part["arrays"].items():
                array = values.cpu().numpy() if hasattr(values, "cpu") else values
                check_finite(f"{name}.{key}", array)
                with file.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)


class Stored(Mapping[str, Any]):
    """The arrays of one file, read when they are asked for; it was verified before."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, key: str) -> Any:
        with np.load(self._path, allow_pickle=False) as arrays:
            return arrays[key]

    def __iter__(self) -> Iterator[str]:
        with np.load(self._path, allow_pickle=False) as arrays:
            return iter(list(arrays.files))

    def __len__(self) -> int:
        return len(list(iter(self)))


def check_finite(name: str, array: Any) -> None:
    """DivergedError where a number is not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DivergedError(f"{name} {list(array.shape)} holds a number that is not finite: no checkpoint was written")


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Has the system put a file or a folder's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
