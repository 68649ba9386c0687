"""Checkpoints, runs and settings made to do harm: all are refused, nothing is executed, no file of others is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qladder.runners import train

RUN = {"steps": 600, "checkpoint_every": 200, "eval_every": 1_000, "eval_episodes": 1, "log_every": 100}
DEEP = {
    "run": {**RUN, "learning_starts": 100, "update_every": 8},
    "agent": {"hidden": [8]},
    "replay": {"capacity": 400},
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("malice")
    train("dqn", "CartPole-v1", settings=DEEP, out=folder, name="deep")
    train("q-learning", "FrozenLake-v1", settings={"run": RUN}, out=folder, name="table")
    script = Path(__file__).parent / "malice.py"
    command = [sys.executable, script, folder / "deep", folder / "table", folder / "scratch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, cwd=folder)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_all_are_refused(tried: dict[str, Any]) -> None:
    assert len(tried) >= 85
    for name, came_to in tried.items():
        assert came_to["resume"].startswith("refused: "), (name, came_to)
        only_resumed = ("resume: ", "folder: a manifest of", "folder: an evaluation's wrapper")
        if not name.startswith(only_resumed):  # whoever only plays does not look at those
            assert came_to["load"].startswith("refused: "), (name, came_to)


def test_nothing_was_executed_and_no_file_of_others_was_opened(tried: dict[str, Any]) -> None:
    for name, came_to in tried.items():
        assert came_to["events"] == [], name
        assert not any(came_to[how].startswith("RAISED") for how in ("load", "resume")), (name, came_to)


def test_what_was_not_touched_is_accepted(tmp_path: Path) -> None:
    """Else a run that is refused for another reason would pass."""
    train("q-learning", "FrozenLake-v1", settings={"run": RUN}, out=tmp_path, name="it")
    config = tmp_path / "it" / "config.toml"
    longer = {"run": {"steps": 900}}
    assert train(config=config, out=tmp_path, name="it", resume=True, settings=longer)["agent_steps"] == 900
