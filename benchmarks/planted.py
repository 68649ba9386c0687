"""Runs pytest on a copy of the tree with a fault in it: `python benchmarks/planted.py ROOT MODULE ARGUMENT ...`.

The exit status is pytest's, but `UNIMPORTABLE` where the module cannot even be imported, and `ELSEWHERE` where what is
imported under its name is not the copy's: then the tests would say nothing about the fault.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

UNIMPORTABLE, ELSEWHERE = 98, 99


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

    return int(pytest.main(list(arguments), [Quick()]))


class Quick:
    """Lets Hypothesis try the same examples every time, and look for no smaller one once something fails."""

    def pytest_sessionstart(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("planted", phases=phases, derandomize=True, database=None)
        settings.load_profile("planted")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
