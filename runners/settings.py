"""Settings as data: layers of plain tables merged, checked against frozen dataclasses, and written back."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from qladder.agents.schedules import Schedule
from qladder.envs.errors import UserError, nearest

Table = dict[str, Any]

SECTIONS = ("env", "agent", "replay", "run", "protocol")
ELSEWHERE = {
    "lr": "agent.learning_rate",
    "discount": "agent.gamma",
    "exploration_rate": "agent.epsilon",
    "target_update_interval": "agent.target_period",
    "tau": "agent.target_tau",
    "buffer_size": "replay.capacity",
    "memory_size": "replay.capacity",
    "batch_size": "replay.batch_size",
    "n_step": "replay.n_step",
    "n_steps": "replay.n_step",
    "per": "replay.prioritized",
    "total_timesteps": "run.steps",
    "train_freq": "run.update_every",
    "gradient_steps": "run.updates",
    "learning_starts": "run.learning_starts",
    "seed": "run.seed",
    "n_envs": "env.num_envs",
    "frameskip": "protocol.frame_skip",
    "repeat_action_probability": "protocol.sticky",
    "full_action_space": "protocol.full_action_space",
    "terminal_on_life_loss": "protocol.life_loss",
    "noop_max": "protocol.noop_max",
    "screen_size": "protocol.screen",
    "frame_stack": "protocol.stack",
    "reward_clip": "protocol.clip_rewards",
    "clip_rewards": "protocol.clip_rewards",
    "max_episode_steps": "env.kwargs.max_episode_steps",
}
"""What settings are called here that have another name in other libraries, or stand in another section there."""


def read_toml(path: Path) -> Table:
    """A TOML file as a table; UserError for one that cannot be read or does not end."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error


def merge(*layers: Mapping[str, Any]) -> Table:
    """Tables laid over one another, the later winning; tables in them likewise."""
    result: Table = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            if isinstance(value, Mapping) and isinstance(below, int | float):
                below = _constant(below)  # part of a schedule over a number: the rest of it is that number's
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            result[key] = merge(below, value) if both else merge(value) if isinstance(value, Mapping) else value  # type: ignore[arg-type]
    return result


def sections(table: Mapping[str, Any], where: str) -> Table:
    """The sections of settings, each a table; UserError for what is none of them."""
    for name, value in table.items():
        if name not in SECTIONS:
            hint = nearest(name, SECTIONS) or "; there are " + ", ".join(SECTIONS)
            raise UserError(f"{where}: there is no section '{name}'{hint}")
        if not isinstance(value, Mapping):
            named = " (a protocol's name is env.protocol)" if name == "protocol" else ""
            raise UserError(f"{where}: '{name}' is a section, not a value{named}")
    return dict(table)


def parse_flags(arguments: Sequence[str]) -> tuple[Table, list[str]]:
    """`--section.field value ...` flags as a table, and the arguments that are none; dashes in fields are underscores.

    A value is read as TOML where it can be (`3`, `1e-4`, `true`, `[64, 64]`), else as text; several make a list.
    """
    table: Table = {}
    rest: list[str] = []
    i = 0
    while i < len(arguments):
        flag, equals, value = arguments[i].partition("=")
        i += 1
        section, dot, field = flag.removeprefix("--").partition(".")
        if not (flag.startswith("--") and dot):
            rest.append(arguments[i - 1])
            continue
        if section not in SECTIONS:
            raise UserError(f"{flag}: there is no section '{section}'{nearest(section, SECTIONS)}")
        values = [value] if equals else []
        while not equals and i < len(arguments) and not arguments[i].startswith("--"):
            values.append(arguments[i])
            i += 1
        if not values:
            raise UserError(f"{flag}: a value is missing")
        read = [_literal(v) for v in values]
        leaf: Table = {}
        inner = leaf
        *path, last = field.split(".")
        for name in path:
            inner = inner.setdefault(name.replace("-", "_"), {})
        inner[last.replace("-", "_")] = read[0] if len(read) == 1 else read
        table = merge(table, {section: leaf})
    return table, rest


def build(cls: type, table: Mapping[str, Any], where: str) -> Any:
    """An instance of a frozen dataclass from a table; fields that are absent take the class's defaults.

    A number stands for a constant schedule, a single value for a list of one, and "none" for nothing.

    Raises:
        UserError: an unknown field (with the nearest name), or a value of the wrong type or out of range.
    """
    from pydantic import ValidationError

    complete = _complete(cls, table, where)
    _check_plain(complete, where)
    try:
        return _reader(cls).validate_json(json.dumps(complete), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(str(p) for p in problem["loc"] if not _is_branch(p))
        hint = ""
        if problem["type"] == "literal_error":
            hint = nearest(str(problem["input"]), re.findall("'(.*?)'", problem["ctx"]["expected"]))
        elif isinstance(problem["input"], str) and "," in problem["input"]:
            hint = "; several values stand apart: " + problem["input"].replace(",", " ")
        said = _lower(problem["msg"])
        if problem["type"] == "dataclass_type":
            schedule = problem["ctx"]["class_name"] == Schedule.__name__
            said = "must be a number, or .start, .end and .over" if schedule else "must be a table of fields"
        raise UserError(f"{where}.{path} = {problem['input']!r}: {said}{hint}") from error


@cache
def _reader(cls: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _check_plain(value: Any, where: str) -> None:
    """UserError for what no field can hold: numbers without end, or beyond 64 bits, and TOML's dates."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_plain(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_plain(inner, where)
    elif value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where} = {value}: must not be a {type(value).__name__}")
    elif (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and abs(value) >= 2**63):
        told = str(value) if isinstance(value, float) else f"an integer of {value.bit_length()} bits"
        raise UserError(f"{where} = {told}: must be a finite number below 2**63")


def dump(config: Any) -> Table:
    """A dataclass as a TOML table: nothing becomes "none", tuples become lists."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def defaults(cls: type) -> Table:
    """The fields that have a default, with it, as `dump` would write them."""
    found: Table = {}
    for f in dataclasses.fields(cls):
        if f.default is not dataclasses.MISSING:
            found[f.name] = _plain(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            found[f.name] = _plain(f.default_factory())
    return found


def fields_help(cls: type, table: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, current value and meaning of every field, the meaning being the string under it in the source."""
    meaning: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            meaning |= _meanings(base)
    complete = _complete(cls, table, "")
    return [(f.name, json.dumps(complete.get(f.name)), meaning.get(f.name, "")) for f in dataclasses.fields(cls)]


def _meanings(cls: type) -> dict[str, str]:
    """The string under each field of the class itself."""
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    return {
        a.target.id: ast.literal_eval(b.value)
        for a, b in itertools.pairwise(body)
        if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr) and isinstance(a.target, ast.Name)
    }


def _complete(cls: type, table: Mapping[str, Any], where: str) -> Table:
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for name in table:
        if name not in names:
            ours = ELSEWHERE.get(name) if where in ("env", "agent", "replay", "run") else None
            near = f"; it is --{ours}" if ours else nearest(name, names)
            raise UserError(f"{where}.{name}: there is no such field{near or '; there are ' + ', '.join(names)}")
    complete: Table = {}
    for f in dataclasses.fields(cls):
        default: Any = dataclasses.MISSING
        if f.default is not dataclasses.MISSING:
            default = _plain(f.default, None)
        elif f.default_factory is not dataclasses.MISSING:
            default = _plain(f.default_factory(), None)
        value = table.get(f.name, default)
        if value is dataclasses.MISSING:
            continue
        complete[f.name] = _coerce(hints[f.name], value, default, f"{where}.{f.name}")
    return complete


def _coerce(hint: Any, value: Any, default: Any, where: str) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in options and value == "none":
        return None
    nested = next((o for o in options if dataclasses.is_dataclass(o)), None)
    if nested is not None:
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and isinstance(nested, type)
            and issubclass(nested, Schedule)
        ):
            return _constant(value)
        if isinstance(value, Mapping):
            return _complete(nested, merge(default, value) if isinstance(default, Mapping) else value, where)  # type: ignore[arg-type]
    tuples = [o for o in options if typing.get_origin(o) is tuple]
    if tuples and isinstance(value, str | int | float):
        return [value]
    several = next((one for o in tuples for one in typing.get_args(o) if dataclasses.is_dataclass(one)), None)
    if several is not None and isinstance(value, list | tuple):
        return [
            _complete(several, one, f"{where} {_called(one, i)}") if isinstance(one, Mapping) else one  # type: ignore[arg-type]
            for i, one in enumerate(value, 1)
        ]
    if isinstance(value, float) and value.is_integer() and int in options and float not in options:
        return int(value)  # 1e6
    return value


def _called(table: Mapping[str, Any], place: int) -> str:
    """One of several tables: by what names it, else by its place."""
    name = next((table[key] for key in ("name", "label", "env") if key in table), None)
    return str(place) if name is None else f"'{name}'"


def _constant(value: float) -> Table:
    """The schedule that a number stands for."""
    return {"start": value, "end": value, "over": 0}


def _plain(value: Any, none: Any = "none") -> Any:
    if value is None:
        return none
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name), none) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(v, none) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v, none) for k, v in value.items()}
    return value


def _literal(text: str) -> Any:
    try:
        value = tomllib.loads(f"x = {text}")["x"]
        return text if isinstance(value, datetime.date | datetime.time) else value
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _is_branch(part: Any) -> bool:
    """Whether pydantic put the name of a type of a union, not of a field, into a location."""
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "str", "bool", "Schedule"))


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
