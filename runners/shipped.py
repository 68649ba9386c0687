"""What comes with qladder as TOML under `configs/`: agents and their settings, and environments' families."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qladder.envs.errors import UserError, nearest
from qladder.runners.settings import Table, read_toml, sections

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@dataclass(frozen=True)
class AgentEntry:
    """What `configs/<name>/agent.toml` says of an agent."""

    name: str
    cls: str  # module:Class
    config: str  # module:Class of its settings, importable without torch
    summary: str
    plays: str
    rung: int
    base: str | None
    learners: tuple[str, ...]  # ways of computing its updates; none for what has only one


def agent_names() -> list[str]:
    """All agents of the house, lowest rung first."""
    return sorted((p.parent.name for p in CONFIGS.glob("*/agent.toml")), key=lambda n: (agent_entry(n).rung, n))


def agent_entry(name: str) -> AgentEntry:
    """An agent by its name, or by `module:Class` from anywhere; UserError with the nearest name where there is none."""
    if ":" in name:
        return AgentEntry(name, name, "", "", "", 0, None, ())
    path = CONFIGS / name / "agent.toml"
    if not re.fullmatch(r"[\w-]{1,99}", name) or not path.is_file():
        names = sorted(p.parent.name for p in CONFIGS.glob("*/agent.toml"))
        raise UserError(f"agent '{name}': there is no such agent{nearest(name, names)} (qladder list agents)")
    about = read_toml(path)["about"]
    base = about.get("base")
    below = agent_entry(base) if base else None
    return AgentEntry(
        name,
        about.get("class") or (below.cls if below else ""),
        about.get("config") or (below.config if below else ""),
        about["summary"],
        about.get("plays") or (below.plays if below else ""),
        about["rung"],
        base,
        tuple(about.get("learners") or (below.learners if below else ())),
    )


@cache
def families() -> dict[str, Table]:
    """Environment families by name, not to be changed: `match`, `protocol`, `ids`, `summary`.

    One with `kwargs` takes the environments that are made with these; its settings come on top of those of its `base`.
    """
    return read_toml(CONFIGS / "envs.toml")


def family_of(env_id: str, kwargs: Any = None) -> str:
    """The first family of an environment's id and arguments (not checked yet); "other" where none matches."""
    given = kwargs if isinstance(kwargs, Mapping) else {}
    for name, entry in families().items():
        fits = entry.get("kwargs", {}).items() <= given.items()
        if fits and any(fnmatch.fnmatchcase(env_id, pattern) for pattern in entry["match"]):
            return name
    return "other"


def settings_file(file: Path) -> Path:
    """A file of settings by its path, or a shipped one by its name; UserError with the nearest where there is none."""
    names = sorted(p.stem for p in (CONFIGS / "presets").glob("*.toml"))
    if str(file) in names and not file.is_file():
        return CONFIGS / "presets" / f"{file}.toml"
    if not file.exists():
        raise UserError(f"--config {file}: there is no such file, nor preset{nearest(str(file), names)}")
    return file


def settings_class_of(entry: AgentEntry) -> Any:
    """The dataclass of an agent's settings, without importing the agent where its entry says where to find it.

    Raises:
        UserError: a class from elsewhere that cannot be imported, or is no agent.
    """
    from qladder.envs.gym import load_attribute

    if entry.config:
        return load_attribute(entry.config, "settings")
    cls = load_attribute(entry.cls, "agent")
    from qladder.agents.agent import lacking

    if not entry.cls.startswith("qladder.") and (missing := lacking(cls)):
        raise UserError(f"agent '{entry.cls}': it lacks {', '.join(missing)} (docs/adding-an-agent.md)")
    return cls.Config


def _base(entry: AgentEntry) -> str | None:
    """The agent whose settings it starts from; one from outside may name it as its class's `base`."""
    from qladder.envs.gym import load_attribute

    return entry.base if ":" not in entry.name else getattr(load_attribute(entry.cls, "agent"), "base", None)


def shipped(entry: AgentEntry, family: str, env: str) -> tuple[list[Table], list[str]]:
    """The layers that come with qladder, those of the base agents below, and where each came from."""
    layers: list[Table] = []
    sources: list[str] = []
    if base := _base(entry):
        layers, sources = shipped(agent_entry(base), family, env)
    if ":" in entry.name:
        return layers, sources
    below = families().get(family, {}).get("base")
    for stem in ("agent", *([below] if below else []), family):
        path = CONFIGS / entry.name / f"{stem}.toml"
        if not path.is_file():
            continue
        table = read_toml(path)
        table.pop("about", None)
        named = {k: v for k, v in table.get("env", {}).items() if re.search(r"-v\d+$", k)}
        general = {**table, "env": {k: v for k, v in table.get("env", {}).items() if k not in named}}
        layers.append(sections(general, str(path)))
        sources.append(f"configs/{entry.name}/{stem}.toml")
        if env in named:
            layers.append(sections(named[env], f'{path} [env."{env}"]'))
            sources.append(f'[env."{env}"]')
    return layers, sources
