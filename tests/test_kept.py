"""Weights that stay: what was kept on the way is what the run was there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from killing import DEEP, SMALL, Killed, go, same

from qladder.envs.errors import UserError
from qladder.runners import checkpoint, evaluate, load, train
from qladder.runners.settings import merge

KEEPING = merge(merge(SMALL, DEEP), {"run": {"keep_every": 300}})


def steps(paths: list[Path]) -> list[int]:
    return [checkpoint.agent_steps_of(path) for path in paths]


def test_weights_stay_as_they_were_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path, "dqn", "CartPole-v1", KEEPING, kill_at=1_000)
    assert steps(checkpoint.kept(tmp_path / "run")) == [900, 600, 300]
    go(tmp_path, "dqn", "CartPole-v1", KEEPING, resume=True)
    run = tmp_path / "run"
    assert steps(checkpoint.kept(run)) == [1_200, 900, 600, 300]
    assert steps(checkpoint.checkpoints(run)) == [1_200, 1_050]
    half = train("dqn", "CartPole-v1", settings=merge(SMALL, DEEP), out=tmp_path, name="half", until=600)
    newest = checkpoint.load(checkpoint.checkpoints(Path(half["run"]))[0])["agent"]
    newest.pop("replay")
    kept = checkpoint.load(checkpoint.kept(run)[2])
    assert same(kept["agent"], newest)
    assert evaluate(run, at=600) == evaluate(half["run"])
    weights = [load(run, at=at).agent.state_dict()["online"] for at in (None, 600, 1_200)]
    assert same(weights[0], weights[2])
    assert not same(weights[0], weights[1])
    with pytest.raises(UserError, match=r"no weights at 700 agent steps .*those at 300, 600, 900, 1,050, 1,200"):
        load(run, at=700)


def test_those_of_a_time_that_did_not_count_go(tmp_path: Path) -> None:
    often = merge(KEEPING, {"run": {"keep_every": 40}})
    with pytest.raises(Killed):
        go(tmp_path, "dqn", "CartPole-v1", often, kill_at=540)
    run = tmp_path / "run"
    assert (steps(checkpoint.checkpoints(run))[0], steps(checkpoint.kept(run))[0]) == (450, 520)
    before = {path: os.stat(path).st_mtime_ns for path in checkpoint.kept(run)}
    go(tmp_path, "dqn", "CartPole-v1", often, resume=True)
    after = {path: os.stat(path).st_mtime_ns for path in checkpoint.kept(run)}
    assert steps([path for path in before if after[path] != before[path]]) == [520, 480]


def test_what_is_due_with_a_checkpoint_is_kept_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies between the two does both anew."""
    together = merge(KEEPING, {"run": {"checkpoint_every": 300}})
    keep = checkpoint.keep

    def dies(run: Path, agent_steps: int, state: Any) -> Path:
        if agent_steps == 600:
            raise Killed
        return keep(run, agent_steps, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "keep", dies)
        with pytest.raises(Killed):
            go(tmp_path, "dqn", "CartPole-v1", together)
    go(tmp_path, "dqn", "CartPole-v1", together, resume=True)
    assert steps(checkpoint.kept(tmp_path / "run")) == [1_200, 900, 600, 300]


def test_where_nothing_is_kept_nothing_stays(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    assert not (tmp_path / "run" / "kept").exists()
    with pytest.raises(UserError, match=r"no weights at 1 agent steps .*; it has those at 1,050, 1,200"):
        evaluate(tmp_path / "run", at=1)
