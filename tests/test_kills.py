"""Real processes, killed by the kernel at random instants (benchmarks/kills.py does many more)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(("name", "kills"), [("table", 8), ("tiles", 8), ("dqn-8", 9)])
def test_runs_that_are_killed_go_on_as_if_they_never_were(name: str, kills: int) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), name, "--kills", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["kills"], told["divergent"], told["lost"]) == (kills, 0, 0)
    assert told["in_training"] >= 2
    assert told["runs"] >= 1
