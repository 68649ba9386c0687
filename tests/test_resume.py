"""A run that was killed and resumed is the run that was never killed, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from killing import DEEP, EIGHT, SEQUENCES, SMALL, Killed, check_same, go

from qladder.envs import atari
from qladder.envs.errors import UserError
from qladder.runners import checkpoint, train
from qladder.runners.loading import restore
from qladder.runners.runs import read_metrics
from qladder.runners.settings import Table, merge

CASES = [
    *((name, "FrozenLake-v1", {}) for name in ("q-learning", "sarsa", "expected-sarsa", "double-q-learning")),
    *((name, "CliffWalking-v1", {}) for name in ("q-lambda", "dyna-q")),
    ("random", "CartPole-v1", EIGHT),
    ("linear-q", "CartPole-v1", {}),
    ("linear-sarsa", "MountainCar-v0", {}),
    ("dqn", "CartPole-v1", {**DEEP, **EIGHT}),
    ("dqn", "MountainCar-v0", merge(DEEP, {"agent": {"explore_power": 2.0}})),
    ("nstep-dqn", "qladder/Catch-v0", DEEP),
    ("rainbow", "CartPole-v1", merge(DEEP, {"agent": {"support": [0.0, 100.0]}})),
    ("m-iqn", "CartPole-v1", DEEP),
    ("pqn", "CartPole-v1", {"agent": {"hidden": [16]}}),
    ("drqn", "qladder/CartPoleHidden-v0", merge(DEEP, SEQUENCES)),
    ("r2d2", "CartPole-v1", merge(DEEP, SEQUENCES)),
]


PIXELS: Table = {
    "env": {"protocol": "nature-2015"},
    "agent": {"hidden": [16]},
    "run": {
        "steps": 1_000,
        "learning_starts": 160,
        "log_every": 70,
        "checkpoint_every": 100,
        "eval_every": 1_000,
        "checkpoint_replay": True,
        "threads": 1,
    },
    "replay": {"capacity": 400},
}


@pytest.mark.parametrize(("agent", "env", "settings"), CASES, ids=[f"{agent}-{env}" for agent, env, _ in CASES])
def test_killed_twice_it_ends_as_if_it_never_was(agent: str, env: str, settings: Table, tmp_path: Path) -> None:
    settings = merge(SMALL, settings)
    go(tmp_path / "whole", agent, env, settings)
    with pytest.raises(Killed):
        go(tmp_path / "cut", agent, env, settings, kill_at=533)
    path = tmp_path / "cut" / "run" / "manifest.json"
    began = "2001-02-03T04:05:06+0000"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "started": began}), encoding="utf-8")
    with pytest.raises(Killed):
        go(tmp_path / "cut", agent, env, settings, kill_at=391, resume=True)
    go(tmp_path / "cut", agent, env, settings, resume=True)
    check_same(tmp_path / "whole" / "run", tmp_path / "cut" / "run")
    evaluations = [
        json.loads((tmp_path / out / "run" / "summary.json").read_text())["evaluation"] for out in ("whole", "cut")
    ]
    assert evaluations[0] == evaluations[1]
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert [resumed["exact"] for resumed in manifest["resumed"]] == [True, True]
    assert manifest["resumed"][0]["agent_steps"] > 300
    assert manifest["started"] == began
    assert [resumed["commit_before"] for resumed in manifest["resumed"]] == [(manifest["git"] or {}).get("commit")] * 2


@pytest.mark.parametrize(
    ("agent", "env", "settings"),
    [
        ("dqn", "ALE/Pong-v5", {"env": {"num_envs": 1}}),
        ("rainbow", "ALE/Breakout-v5", {"agent": {"support": [-10.0, 10.0]}, "env": {"num_envs": 2}}),
        ("drqn", "ALE/Breakout-v5", {"agent": {"core_size": 8}, "env": {"num_envs": 2}}),
    ],
)
def test_games_that_were_cut_off_go_on(
    agent: str, env: str, settings: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to a checkpoint: an evaluation by the protocol would take minutes. Breakout ends some games until then."""
    monkeypatch.setattr(atari, "RESEED_AFTER", 100)
    settings = merge(PIXELS, settings)
    for out, *kills in (("whole", 460), ("cut", 250, 260)):
        for start, kill_at in enumerate(kills):
            with pytest.raises(Killed):
                go(tmp_path / out, agent, env, settings, kill_at=kill_at, resume=start > 0)
    assert checkpoint.checkpoints(tmp_path / "whole" / "run")[0].name == "step-000000000400"
    check_same(tmp_path / "whole" / "run", tmp_path / "cut" / "run")


class Chance(gymnasium.Env[int, int]):
    """Its states come from a generator that no seed reaches."""

    observation_space = gymnasium.spaces.Discrete(1_000)
    action_space = gymnasium.spaces.Discrete(2)
    rng = np.random.default_rng(0)

    def reset(self, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return int(self.rng.integers(1_000)), 0.0, False, False, {}


gymnasium.register("Chance-v0", Chance, max_episode_steps=400)


def test_an_environment_that_is_not_deterministic_is_named_and_never_trusted(tmp_path: Path) -> None:
    settings = {"run": {"steps": 500, "checkpoint_every": 150, "eval_episodes": 1}}
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "Chance-v0", settings, kill_at=200)
    with pytest.raises(UserError, match="Chance-v0: the 150 actions that episode 0 took led elsewhere"):
        go(tmp_path, "q-learning", "Chance-v0", settings, resume=True)
    go(tmp_path, "q-learning", "Chance-v0", settings, resume=True, allow_drift=True)
    (resumed,) = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["resumed"]
    assert not resumed["exact"]
    assert "not deterministic" in resumed["drift"][0]


class Shifted(gymnasium.Env[int, int]):
    """Deterministic, until somebody changes its code."""

    observation_space = gymnasium.spaces.Discrete(1_000)
    action_space = gymnasium.spaces.Discrete(2)
    shift = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return int(self.np_random.integers(900)) + self.shift, float(action), False, False, {}


gymnasium.register("Shifted-v0", Shifted, max_episode_steps=400)


def test_new_episodes_are_gone_on_with_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a resume that had to begin new ones, which are of another stream than those at the start."""
    settings = {"run": {"steps": 500, "checkpoint_every": 150, "eval_episodes": 1}}
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "Shifted-v0", settings, kill_at=200)
    monkeypatch.setattr(Shifted, "shift", 50)
    shutil.copytree(tmp_path / "run", tmp_path / "other" / "run")
    with pytest.raises(UserError, match="led elsewhere"):
        go(tmp_path, "q-learning", "Shifted-v0", settings, resume=True)
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "Shifted-v0", settings, resume=True, allow_drift=True, kill_at=180)
    go(tmp_path, "q-learning", "Shifted-v0", settings, resume=True)
    go(tmp_path / "other", "q-learning", "Shifted-v0", settings, resume=True, allow_drift=True)
    check_same(tmp_path / "other" / "run", tmp_path / "run")


def test_a_resume_adds_no_evaluation_where_none_was_due(tmp_path: Path) -> None:
    """By training returns there is none while no episode has ended: MountainCar's first ones last 200 steps."""
    run = {"steps": 900, "eval_every": 150, "checkpoint_every": 250}
    settings = merge(SMALL, {"run": run, "env": {"protocol": "cleanrl"}})
    go(tmp_path / "whole", "q-learning", "MountainCar-v0", settings)
    with pytest.raises(Killed):
        go(tmp_path / "cut", "q-learning", "MountainCar-v0", settings, kill_at=270)
    go(tmp_path / "cut", "q-learning", "MountainCar-v0", settings, resume=True)
    check_same(tmp_path / "whole" / "run", tmp_path / "cut" / "run")


def test_a_run_is_saved_every_so_many_minutes_too(tmp_path: Path) -> None:
    seldom = {"run": {"checkpoint_every": 10_000, "checkpoint_minutes": 0}}
    go(tmp_path / "whole", "q-learning", "CliffWalking-v1", merge(SMALL, seldom))
    often = merge(SMALL, {"run": {**seldom["run"], "checkpoint_minutes": 1e-9}})
    with pytest.raises(Killed):
        go(tmp_path / "cut", "q-learning", "CliffWalking-v1", often, kill_at=533)
    go(tmp_path / "cut", "q-learning", "CliffWalking-v1", often, resume=True)
    check_same(tmp_path / "whole" / "run", tmp_path / "cut" / "run")
    (resumed,) = json.loads((tmp_path / "cut" / "run" / "manifest.json").read_text(encoding="utf-8"))["resumed"]
    assert resumed["agent_steps"] == 490
    with pytest.raises(Killed):
        go(tmp_path / "never", "q-learning", "CliffWalking-v1", merge(SMALL, seldom), kill_at=533)
    assert checkpoint.checkpoints(tmp_path / "never" / "run") == []


def test_a_replay_that_was_not_saved_is_told(tmp_path: Path) -> None:
    settings = merge(SMALL, {**DEEP, "run": {**DEEP["run"], "checkpoint_replay": False}})
    with pytest.raises(Killed):
        go(tmp_path, "dqn", "CartPole-v1", settings, kill_at=800)
    go(tmp_path, "dqn", "CartPole-v1", settings, resume=True)
    (resumed,) = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["resumed"]
    assert (resumed["exact"], resumed["drift"]) == (False, [])
    counts = [line["episodes"] for line in read_metrics(tmp_path / "run")]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_every_resume_is_told_also_one_that_only_evaluates(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, kill_at=700)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "device": "abacus"}), encoding="utf-8")
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True, allow_drift=True)
    (tmp_path / "run" / "summary.json").unlink()
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
    told = json.loads(path.read_text(encoding="utf-8"))["resumed"]
    assert [(r["agent_steps"], r["exact"], r["drift"]) for r in told] == [
        (600, False, ["device was abacus and is cpu now"]),
        (1_200, True, []),
    ]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (tmp_path / "run").rglob("*")}
    again = go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
    assert {**again, "seconds": None} == {**result, "seconds": None}
    assert 0 < again["seconds"] <= result["seconds"]
    assert "is finished already" in capsys.readouterr().err
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (tmp_path / "run").rglob("*")} == before
    with pytest.raises(UserError, match=r"agent\.gamma was"):
        go(tmp_path, "q-learning", "CliffWalking-v1", merge(SMALL, {"agent": {"gamma": 0.5}}), resume=True)
    fewer = merge(SMALL, {"run": {"episodes": 2}})
    with pytest.raises(UserError, match=r"episodes already, past --run\.episodes 2"):
        go(tmp_path, "q-learning", "CliffWalking-v1", fewer, resume=True)
    longer = merge(SMALL, {"run": {"steps": 1_300}})
    assert go(tmp_path, "q-learning", "CliffWalking-v1", longer, resume=True)["agent_steps"] == 1_300


def test_a_finished_run_without_its_checkpoints_is_not_begun_afresh(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    measured = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="its checkpoints were removed, and nothing is left to go on from; --name"):
        go(tmp_path, "q-learning", "CliffWalking-v1", merge(SMALL, {"run": {"steps": 1_300}}), resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == measured


@pytest.mark.parametrize("agent", ["q-learning", "dqn"])
def test_until_where_a_run_is_already_takes_no_step(agent: str, tmp_path: Path) -> None:
    env, settings = ("CliffWalking-v1", SMALL) if agent == "q-learning" else ("CartPole-v1", merge(SMALL, DEEP))
    for resume in (False, True, True):
        result = train(agent, env, settings=settings, out=tmp_path, name="run", resume=resume, until=500)
        assert (result["agent_steps"], result["exit_reason"]) == (500, "stopped")


def test_memory_that_is_short_is_not_called_another_run(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)

    class Large:
        def load_state_dict(self, state: Any) -> None:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(RuntimeError, match="out of memory"):
        restore(tmp_path / "run", Large())  # type: ignore[arg-type]


def test_a_refused_resume_removes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, kill_at=700)
    run = tmp_path / "run"
    newest = checkpoint.checkpoints(run)[0]
    (newest / "state.json").write_text("{}")
    manifest = (run / "manifest.json").read_text(encoding="utf-8")
    (run / "manifest.json").write_text(manifest.replace('"device": "cpu"', '"device": "abacus"'), encoding="utf-8")
    before = sorted(path for path in run.rglob("*") if path.name != ".lock")
    with pytest.raises(UserError, match="abacus"):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
    assert sorted(path for path in run.rglob("*") if path.name != ".lock") == before
