"""What all commands share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from tyro.conf import arg

Json = Annotated[bool, arg(help="Print one JSON object on standard output and nothing else.")]
Out = Annotated[str, arg(help="Folder for what is written.")]

STATUS = {"finished": 0, "interrupted": 130, "terminated": 143}

arguments: list[str] = []  # of this call, all of them
flags: dict[str, Any] = {}  # the --section.field values of this call, by section; `runners.cli` fills them in


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value))
