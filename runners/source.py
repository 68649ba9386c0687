"""Which code makes a run: digests of qladder's own files and of the user's modules, versions of installed packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from qladder.runners.likeness import own_modules
from qladder.runners.settings import Table

HOME = Path(__file__).resolve().parent.parent
FOLDERS = ("envs", "replay", "agents", "runners", "configs")
KINDS = (".py", ".toml")
BINARIES = (".so", ".pyd")


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
            files = (file for place in spec.submodule_search_locations for file in Path(place).rglob("*"))
            found[name] = _digest(files, (*KINDS, *BINARIES))
        elif spec is not None and spec.origin is not None:
            found[name] = _digest([Path(spec.origin)], (*KINDS, *BINARIES))
    return found


def package_versions(table: Table) -> dict[str, str]:
    """By name the installed packages that the environment comes from, as it is registered, and that settings name.

    Those of qladder's own requirements are not among them.
    """
    import gymnasium

    spec = gymnasium.registry.get(table["env"]["id"].rpartition(":")[2])
    point = "" if spec is None else spec.entry_point or ""
    entry = point if isinstance(point, str) else point.__module__
    modules = {entry.partition(":")[0].partition(".")[0], *(name.partition(".")[0] for name in own_modules(table))}
    if entry.startswith("gymnasium.envs.box2d"):
        modules.add("Box2D")
    if not (modules := modules - {"", "gymnasium", "qladder", "ale_py"}):
        return {}
    known = importlib.metadata.packages_distributions()
    return {name: importlib.metadata.version(name) for module in modules for name in known.get(module, ())}


def _digest(files: Iterable[Path], kinds: tuple[str, ...] = KINDS) -> str:
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.suffix in kinds and file.is_file()):
        digest.update(str(file.name).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
