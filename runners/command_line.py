"""What all commands share."""

from __future__ import annotations

import json
import sys
from typing import IO, Annotated, Any

from tyro.conf import arg

from qladder.envs.errors import UserError

Json = Annotated[bool, arg(help="Print one JSON object on standard output and nothing else.")]
Out = Annotated[str, arg(help="Folder for what is written.")]

STATUS = {"finished": 0, "interrupted": 130, "terminated": 143}

output: IO[str] | None = None  # standard output, where a call with --json keeps it for itself
arguments: list[str] = []  # of this call, all of them
flags: dict[str, Any] = {}  # the --section.field values of this call, by section; `runners.cli` fills them in


def with_flags(short: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Settings of this call, by section: those that have a short flag, None where it was not given, and the others.

    Raises:
        UserError: one was given both ways, and differs.
    """
    from qladder.runners.settings import merge

    given = {section: {k: v for k, v in table.items() if v is not None} for section, table in short.items()}
    for section, table in given.items():
        for name, value in table.items():
            if (full := flags.get(section, {}).get(name, value)) != value:
                raise UserError(f"--{name} {value} and --{section}.{name} {full}: give one of them")
    return merge({k: v for k, v in given.items() if v}, flags)


def print_json(value: Any) -> None:
    """One JSON object on standard output, where nothing else is: what others print meanwhile goes to standard error."""
    print(json.dumps(value), file=output or sys.stdout)
