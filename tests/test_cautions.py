"""What a run is too short for is told before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qladder.runners.cautions import cautions
from qladder.runners.config import resolve
from qladder.runners.training import train


def told(agent: str, run: dict[str, Any], frames_per_step: int = 1, **settings: Any) -> list[str]:
    return list(cautions(resolve(agent, "CartPole-v1", {"run": run, "agent": settings}), frames_per_step))


def test_a_run_that_ends_before_its_first_update() -> None:
    [line] = told("dqn", {"steps": 999, "learning_starts": 1_000, "update_every": 1})
    assert line.startswith("no update will be made: run.learning_starts = 1,000")
    [line] = told("dqn", {"steps": 1_009, "learning_starts": 1_000, "update_every": 10})
    assert line.startswith("no update will be made")


def test_importance_is_of_a_prioritised_replay_alone() -> None:
    run = {"steps": 150, "learning_starts": 50, "update_every": 2, "updates": 1}
    plain = {"epsilon": 0.1, "learning_rate": 1e-3}
    importance = {"start": 0.4, "end": 1.0, "over": 1_000}
    assert told("dqn", run, **plain, importance=importance) == []
    [line] = told("per-dqn", run, **plain, importance=importance)
    assert line.startswith("agent.importance gets no further than 0.49")


def test_a_schedule_that_the_run_does_not_reach_the_end_of() -> None:
    epsilon = {"start": 1.0, "end": 0.0, "over": 800, "clock": "frames"}
    run = {"steps": 150, "learning_starts": 50, "update_every": 2, "updates": 1}
    assert told("dqn", run, 4, epsilon=epsilon, importance=1.0, learning_rate=1e-3) == [
        "agent.epsilon gets no further than 0.25: it goes to 0 over 800 frames, and the run has 600"
    ]
    rate = {"start": 1e-3, "end": 0.0, "over": 100, "clock": "updates"}  # of which there are fifty
    assert told("dqn", run, 4, epsilon=0.1, importance=1.0, learning_rate=rate) == [
        "agent.learning_rate gets no further than 0.0005: it goes to 0 over 100 updates, and the run has 50"
    ]
    assert told("dqn", {**run, "steps": 250}, 4, epsilon=epsilon, importance=1.0, learning_rate=rate) == []


def test_where_episodes_may_end_the_run_nothing_is_said() -> None:
    assert told("dqn", {"steps": 999, "learning_starts": 1_000, "episodes": 5}) == []


@pytest.mark.parametrize(("steps", "said"), [(20, True), (400, False)])
def test_whoever_trains_hears_of_it(steps: int, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"agent": {"epsilon": 0.1}, "run": {"steps": steps, "learning_starts": 100}}
    train("dqn", "CartPole-v1", settings=settings, out=tmp_path, progress=True)
    assert ("caution: no update will be made" in capsys.readouterr().err) is said
