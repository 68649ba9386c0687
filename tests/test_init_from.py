"""Runs that begin with what another one has learnt, and with nothing else of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from killing import DEEP, SEQUENCES, SMALL, Killed, go, same

from qladder.agents.agent import Agent
from qladder.envs.errors import UserError
from qladder.runners import checkpoint, train
from qladder.runners.begun_with import begin_with
from qladder.runners.config import resolve
from qladder.runners.likeness import settings_hash
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.prune import prune
from qladder.runners.settings import Table, merge
from qladder.runners.taken import trained_runs
from qladder.runners.verify import verify

SHORT: Table = {"run": {"steps": 600, "eval_every": 600, "eval_episodes": 1}}
NONE: Table = {"run": {"learning_starts": 600, "steps": 600}}
DEEPER = merge(SHORT, DEEP)


def fresh(agent: str, env: str, settings: Table) -> tuple[Agent, Any]:
    """The agent as a run would have it before its first step, and what the manifest would tell."""
    config = resolve(agent, env, settings)
    environment = make_environment(config, agent not in ("q-learning", "sarsa", "double-q-learning", "linear-q"))
    environment.close()
    made = make_agent(config, environment.spec, "cpu")
    return made, begin_with(config, made)


@pytest.mark.parametrize(
    ("source", "agent", "env", "settings"),
    [
        ("q-learning", "sarsa", "FrozenLake-v1", SHORT),
        ("double-q-learning", "double-q-learning", "FrozenLake-v1", SHORT),
        ("linear-q", "linear-q", "MountainCar-v0", SHORT),
        ("dqn", "double-dqn", "CartPole-v1", DEEPER),
        ("pqn", "pqn", "CartPole-v1", merge(SHORT, {"agent": {"hidden": [16]}})),
        ("drqn", "drqn", "qladder/CartPoleHidden-v0", merge(DEEPER, SEQUENCES)),
    ],
)
def test_what_was_learnt_is_taken_and_nothing_else(
    source: str, agent: str, env: str, settings: Table, tmp_path: Path
) -> None:
    train(source, env, settings=merge(settings, {"run": {"seed": 3}}), out=tmp_path, name="seed-3")
    theirs = checkpoint.load(checkpoint.checkpoints(tmp_path / "seed-3")[0])["agent"]
    begins = merge(settings, {"run": {"seed": 3, "init_from": f"{tmp_path}/seed-{{seed}}"}})
    mine, told = fresh(agent, env, begins)
    other, _ = fresh(agent, env, merge(settings, {"run": {"seed": 3}}))
    assert told["checkpoint"] == checkpoint.checkpoints(tmp_path / "seed-3")[0].name
    learnt = set(mine.learnt)  # type: ignore[attr-defined]
    state, untouched = mine.state_dict(), other.state_dict()
    assert not all(same(state[name], untouched[name]) for name in learnt & state.keys())
    for name in state:
        assert same(state[name], (theirs if name in learnt else untouched)[name]), name


def test_such_a_run_is_resumed_without_the_other(tmp_path: Path) -> None:
    train("dqn", "CartPole-v1", settings=DEEPER, out=tmp_path, name="first")
    begins = merge(merge(SMALL, DEEP), {"run": {"init_from": str(tmp_path / "first")}})
    with pytest.raises(Killed):
        go(tmp_path, "dqn", "CartPole-v1", begins, kill_at=500)
    path = tmp_path / "run" / "manifest.json"
    began = json.loads(path.read_text(encoding="utf-8"))["init_from"]
    shutil.move(tmp_path / "first", tmp_path / "away")
    go(tmp_path, "dqn", "CartPole-v1", begins, resume=True)
    assert json.loads(path.read_text(encoding="utf-8"))["init_from"] == began
    with pytest.raises(UserError, match=r"first is not a run folder"):
        verify(tmp_path / "run", from_start=True)
    shutil.move(tmp_path / "away", tmp_path / "first")
    prune([tmp_path / "first"])
    assert verify(tmp_path / "run", from_start=True)["identical"]
    result = train(trained_in=tmp_path / "run", out=tmp_path / "others", name="taken")
    assert json.loads(Path(result["run"], "manifest.json").read_text(encoding="utf-8"))["init_from"] == began
    shutil.rmtree(tmp_path / "first")
    train("dqn", "CartPole-v1", settings=merge(DEEPER, {"run": {"steps": 700}}), out=tmp_path, name="first")
    told = verify(tmp_path / "run", from_start=True)
    assert not told["identical"]
    assert told["compared"]["drift"] == [f"{tmp_path / 'first'}, which it began with, is not what it was"]
    with pytest.raises(UserError, match=r"first, which it began with, is not what it was"):
        train(trained_in=tmp_path / "run", out=tmp_path, name="taken")
    assert list(trained_runs([tmp_path]).values()) == [tmp_path / "first"]


@pytest.mark.parametrize(
    ("agent", "env", "named", "said"),
    [
        ("dqn", "Acrobot-v1", "first", "not for dqn as set here: size mismatch for head"),
        ("q-learning", "FrozenLake-v1", "first", "not for q-learning as set here: it has no 'q'"),
        ("random", "CartPole-v1", "first", "random does not tell what of its state is `learnt`"),
        ("dqn", "CartPole-v1", "frist", "frist is not a run folder"),
        ("dqn", "CartPole-v1", "bare", "holds no good checkpoint"),
    ],
)
def test_what_cannot_be_begun_with_is_named_before_anything_is_written(
    agent: str, env: str, named: str, said: str, tmp_path: Path
) -> None:
    train("dqn", "CartPole-v1", settings=merge(DEEPER, NONE), out=tmp_path, name="first")
    shutil.copytree(tmp_path / "first", tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    before = sorted(tmp_path.rglob("*"))
    deep = DEEPER if agent == "dqn" else SHORT
    with pytest.raises(UserError, match=said):
        train(agent, env, settings=merge(deep, {"run": {"init_from": str(tmp_path / named)}}), out=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_it_is_another_trial_and_the_same_for_all_seeds() -> None:
    one, two, without = (
        settings_hash(resolve("dqn", "CartPole-v1", {"run": run}))
        for run in ({"init_from": "a/s{seed}"}, {"init_from": "a/s{seed}", "seed": 1}, {})
    )
    assert one == two != without
