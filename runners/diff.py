"""What differs between two agents' settings on the same environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qladder.runners.config import resolve
from qladder.runners.settings import Table
from qladder.runners.shipped import agent_entry

ABSENT = "absent"


def diff(a: str, b: str, env: str) -> dict[str, Any]:
    """The fields whose values differ, as `{field: {a: value, b: value}}`, and whether both are of one class.

    A field that one of them does not have is `absent` there; what `qladder diff --json` prints.

    Raises:
        UserError: an unknown agent, or settings that cannot be had on this environment.
    """
    fields = differing({name: resolve(name, env, {}).table() for name in (a, b)})
    fields.pop("agent.name", None)
    return {"a": a, "b": b, "env": env, "same_class": agent_entry(a).cls == agent_entry(b).cls, "fields": fields}


def differing(tables: Mapping[str, Table]) -> dict[str, dict[str, Any]]:
    """Of settings by name, the fields that are not the same in all: for each, what it is in which."""
    flat = {name: _flat(table) for name, table in tables.items()}
    told = {
        field: {name: table.get(field, ABSENT) for name, table in flat.items()}
        for field in dict.fromkeys(field for table in flat.values() for field in table)
    }
    return {
        field: values
        for field, values in told.items()
        if any(v != next(iter(values.values())) for v in values.values())
    }


def print_diff(told: Mapping[str, Any]) -> None:
    """The same as a table on standard output."""
    from rich.console import Console
    from rich.table import Table as Box

    console = Console(markup=False)
    a, b = told["a"], told["b"]
    box = Box("field", a, b, box=None, header_style="bold")
    for name, values in told["fields"].items():
        box.add_row(name, setting_text(values[a]), setting_text(values[b]))
    console.print(f"{a} and {b} on {told['env']}" + ("" if told["same_class"] else ", which are different programs"))
    console.print(box if told["fields"] else "no field differs")


def _flat(table: Table, above: str = "") -> Table:
    """Tables in tables as dotted names, but for schedules, which are one value."""
    flat: Table = {}
    for name, value in table.items():
        if isinstance(value, Mapping) and "clock" not in value:
            flat.update(_flat(dict(value), f"{above}{name}."))
        else:
            flat[f"{above}{name}"] = value
    return flat


def setting_text(value: Any) -> str:
    """A setting for people."""
    if isinstance(value, Mapping):
        if value["start"] == value["end"]:
            return f"{value['start']:g}"
        begin = f" after {value['begin']:,}" if value["begin"] else ""
        return f"{value['start']:g} to {value['end']:g} over {value['over']:,} {value['clock']}{begin}"
    return str(value).lower() if isinstance(value, bool) else str(value)
