"""What differs between two agents' settings on the same environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qladder.runners.config import agent_entry, resolve
from qladder.runners.settings import Table

ABSENT = "absent"


def diff(a: str, b: str, env: str) -> dict[str, Any]:
    """The fields whose values differ, as `{field: {a: value, b: value}}`, and whether both are of one class.

    A field that one of them does not have is `absent` there; what `qladder diff --json` prints.

    Raises:
        UserError: an unknown agent, or settings that cannot be had on this environment.
    """
    one, other = (_flat(resolve(name, env, {}).table()) for name in (a, b))
    fields = {
        name: {a: one.get(name, ABSENT), b: other.get(name, ABSENT)}
        for name in dict.fromkeys([*one, *other])
        if name != "agent.name" and one.get(name, ABSENT) != other.get(name, ABSENT)
    }
    return {"a": a, "b": b, "env": env, "same_class": agent_entry(a).cls == agent_entry(b).cls, "fields": fields}


def print_diff(told: Mapping[str, Any]) -> None:
    """The same as a table on standard output."""
    from rich.console import Console
    from rich.table import Table as Box

    console = Console(markup=False)
    a, b = told["a"], told["b"]
    box = Box("field", a, b, box=None, header_style="bold")
    for name, values in told["fields"].items():
        box.add_row(name, _text(values[a]), _text(values[b]))
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


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        if value["start"] == value["end"]:
            return f"{value['start']:g}"
        begin = f" after {value['begin']:,}" if value["begin"] else ""
        return f"{value['start']:g} to {value['end']:g} over {value['over']:,} {value['clock']}{begin}"
    return str(value)
