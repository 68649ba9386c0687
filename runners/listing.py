"""What there is, from TOML files and signatures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qladder.runners.config import CONFIGS, agent_entry, agent_names, families, load_protocol, protocol_names
from qladder.runners.settings import read_toml


def listing(what: str) -> dict[str, Any]:
    """Everything that has a name (agents, protocols, ...), or one kind of it: what `qladder list --json` prints."""
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "agents": _agents,
        "envs": families,
        "protocols": _protocols,
        "suites": lambda: _summaries("suites"),
        "presets": lambda: _summaries("presets"),
        "references": lambda: _summaries("references"),
    }
    return {name: part() for name, part in parts.items() if what in ("all", name)}


def print_listing(what: str) -> None:
    """The same as tables on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False)
    for name, rows in listing(what).items():
        table = Table("name", "what", title=name, title_justify="left", box=None, header_style="bold", expand=False)
        for key, row in rows.items():
            text = row["summary"]
            if name == "envs":
                ids = (
                    row["ids"]
                    if len(row["ids"]) < 10 or what == "envs"
                    else [*row["ids"][:3], f"… ({len(row['ids'])})"]
                )
                text += f" (protocol {row['protocol']}): " + ", ".join(ids)
            elif name == "agents":
                text += f"; plays {row['plays']}"
                if row["learners"]:
                    text += "; fast paths: " + (", ".join(n for n in row["learners"] if n != "eager") or "none")
            elif name == "protocols":
                text += f" [{row['hash']}]"
            table.add_row(key, Text(text))
        console.print(table)
        console.print()


def print_settings(agent: str, env: str, flags: Mapping[str, Any]) -> None:
    """Every setting of an agent on an environment, with its value and meaning."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from qladder.runners.config import EnvConfig, RunConfig, resolve, settings_class_of
    from qladder.runners.settings import fields_help

    config = resolve(agent, env, flags)
    console = Console(markup=False)
    console.print(f"qladder train {agent} {env}: settings from {' < '.join(('class defaults', *config.sources))}\n")
    settings_class = settings_class_of(agent_entry(agent))
    classes = {"env": EnvConfig, "agent": settings_class, "replay": settings_class.replay, "run": RunConfig}
    for section, values in config.table().items():
        table = Table(title=section, title_justify="left", box=None, show_header=False)
        for name, value, meaning in fields_help(classes[section], {k: v for k, v in values.items() if k != "name"}):
            if name != "id":
                table.add_row(*map(Text, (f"--{section}.{name}", value.replace("null", "none"), meaning)))
        console.print(table)
        console.print()


def _agents() -> dict[str, Any]:
    rows = {}
    for name in agent_names():
        entry = agent_entry(name)
        rows[name] = {
            "rung": entry.rung,
            "summary": entry.summary,
            "plays": entry.plays,
            "learners": list(entry.learners),
        }
    return rows


def _protocols() -> dict[str, Any]:
    loaded = [load_protocol(name) for name in protocol_names()]
    return {p.name: {"version": p.version, "hash": p.hash, "summary": p.summary, "source": p.source} for p in loaded}


def _summaries(folder: str) -> dict[str, Any]:
    paths = sorted((CONFIGS / folder).glob("*.toml"))
    return {path.stem: {"summary": read_toml(path).get("summary", "")} for path in paths}
