"""Runs pytest on a copy of the tree with a fault in it: `python benchmarks/planted.py ROOT MODULE ARGUMENT ...`.

The exit status is pytest's, but `UNIMPORTABLE` where the module cannot even be imported, and `ELSEWHERE` where what is
imported under its name is not the copy's: then the tests would say nothing about the fault.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

UNIMPORTABLE, ELSEWHERE = 98, 99
QUICK = 1.5  # seconds up to which tests stay in their order, so that they share fixtures


def main(root: str, module: str, *arguments: str) -> int:
    del sys.path[0]  # this folder, whose files have other jobs
    try:
        found = importlib.import_module(module).__file__
    except Exception:
        traceback.print_exc()
        return UNIMPORTABLE
    if not Path(found or "").resolve().is_relative_to(Path(root).resolve()):
        print(f"{module} is {found}, not in {root}")
        return ELSEWHERE
    import pytest

    return int(pytest.main(list(arguments), [Quick(Path(root) / "durations")]))


class Quick:
    """Runs slow tests last, as known from the green runs in this copy, and lets Hypothesis try the same examples every
    time, and look for no smaller one once something fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._took: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("planted", phases=phases, derandomize=True, database=None)
        settings.load_profile("planted")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        took: dict[str, float] = {}
        for file in self._folder.glob("*.json"):
            took |= json.loads(file.read_text())
        items.sort(key=lambda item: max(took.get(item.nodeid, 0.0), QUICK))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._took[report.nodeid] = self._took.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            self._folder.mkdir(exist_ok=True)
            (self._folder / f"{os.getpid()}.json").write_text(json.dumps(self._took))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
