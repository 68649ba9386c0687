"""What all commands share."""

from __future__ import annotations

import json
import sys
from typing import IO, Annotated, Any

from tyro.conf import arg

Json = Annotated[bool, arg(help="Print one JSON object on standard output and nothing else.")]
Out = Annotated[str, arg(help="Folder for what is written.")]

STATUS = {"finished": 0, "interrupted": 130, "terminated": 143}

output: IO[str] | None = None  # standard output, where a call with --json keeps it for itself
arguments: list[str] = []  # of this call, all of them
flags: dict[str, Any] = {}  # the --section.field values of this call, by section; `runners.cli` fills them in


def print_json(value: Any) -> None:
    """One JSON object on standard output, where nothing else is: what others print meanwhile goes to standard error."""
    print(json.dumps(value), file=output or sys.stdout)
