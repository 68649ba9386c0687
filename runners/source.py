"""Which code makes a run: digests of qladder's own files, and of modules of the user's that the settings name."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from qladder.runners.likeness import own_modules
from qladder.runners.settings import Table

HOME = Path(__file__).resolve().parent.parent
FOLDERS = ("envs", "replay", "agents", "runners", "configs")
KINDS = (".py", ".toml")


@lru_cache
def code_digest(home: Path = HOME) -> str:
    """Of all that qladder is made of, as it lies there: what is not committed counts, and what is no code does not."""
    return _digest(file for folder in FOLDERS for file in (home / folder).rglob("*"))


def own_code(table: Table) -> dict[str, str]:
    """By name the packages and modules of the user's own that a run's settings name; nothing is imported."""
    found = {}
    for name in sorted({module.partition(".")[0] for module in own_modules(table)}):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            found[name] = _digest(file for place in spec.submodule_search_locations for file in Path(place).rglob("*"))
        elif spec is not None and spec.origin is not None:
            found[name] = _digest([Path(spec.origin)])
    return found


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.suffix in KINDS and file.is_file()):
        digest.update(str(file.name).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
