"""A run that was killed and resumed is the run that was never killed, bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import limited
import numpy as np
import pytest

from qladder.envs import atari
from qladder.envs.errors import LostLockError, UserError
from qladder.envs.make import make_env
from qladder.runners import checkpoint, train
from qladder.runners.config import resolve
from qladder.runners.loop import Episodes
from qladder.runners.settings import Table, merge
from qladder.runners.verify import verify

RUN = {"steps": 1_200, "log_every": 70, "eval_every": 400, "eval_episodes": 2, "checkpoint_every": 150}
SMALL: Table = {"run": RUN, "env": {}, "agent": {}}
DEEP: Table = {
    "run": {"learning_starts": 300, "update_every": 4},
    "agent": {"hidden": [16]},
    "replay": {"capacity": 900},
}
SEQUENCES: Table = {"agent": {"core_size": 8}, "replay": {"capacity": 900}}
EIGHT: Table = {"env": {"num_envs": 8}}

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


class Killed(BaseException):
    """Nothing of a run may handle it, and nothing is saved."""


def go(out: Path, agent: str, env: str, settings: Table, kill_at: int | None = None, **kwargs: Any) -> dict[str, Any]:
    """One start of a run in `out`, cut off after so many agent steps."""
    with pytest.MonkeyPatch.context() as patch:
        if kill_at is not None:
            add, left = Episodes.add, [kill_at]

            def killing(episodes: Episodes, time_step: Any) -> None:
                left[0] -= np.size(time_step.reward)
                if left[0] < 0:
                    raise Killed
                add(episodes, time_step)

            patch.setattr(Episodes, "add", killing)
        return train(agent, env, settings=settings, out=out, name="run", **kwargs)


def told(run: Path) -> list[dict[str, Any]]:
    """All measurements but those of time."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items() if k != "time")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "shape"):
        return bool(a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b)))
    return bool(a == b)


def check_same(one: Path, other: Path) -> None:
    assert told(one) == told(other)
    newest, again = (checkpoint.checkpoints(run)[0] for run in (one, other))
    assert newest.name == again.name
    assert same(checkpoint.load(newest), checkpoint.load(again))


@pytest.mark.parametrize(("agent", "env", "settings"), CASES, ids=[f"{agent}-{env}" for agent, env, _ in CASES])
def test_killed_twice_it_ends_as_if_it_never_was(agent: str, env: str, settings: Table, tmp_path: Path) -> None:
    settings = merge(SMALL, settings)
    go(tmp_path / "whole", agent, env, settings)
    with pytest.raises(Killed):
        go(tmp_path / "cut", agent, env, settings, kill_at=533)
    with pytest.raises(Killed):
        go(tmp_path / "cut", agent, env, settings, kill_at=391, resume=True)
    go(tmp_path / "cut", agent, env, settings, resume=True)
    check_same(tmp_path / "whole" / "run", tmp_path / "cut" / "run")
    evaluations = [
        json.loads((tmp_path / out / "run" / "summary.json").read_text())["evaluation"] for out in ("whole", "cut")
    ]
    assert evaluations[0] == evaluations[1]
    manifest = json.loads((tmp_path / "cut" / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert [resumed["exact"] for resumed in manifest["resumed"]] == [True, True]
    assert manifest["resumed"][0]["agent_steps"] > 300


@pytest.mark.parametrize(
    ("agent", "env", "settings"),
    [
        ("dqn", "ALE/Pong-v5", {"env": {"num_envs": 1}}),
        ("rainbow", "ALE/Breakout-v5", {"agent": {"support": [-10.0, 10.0]}}),
    ],
)
def test_games_that_were_cut_off_go_on(agent: str, env: str, settings: Table, tmp_path: Path) -> None:
    """Up to a checkpoint: an evaluation by the protocol would take minutes."""
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


def test_what_has_changed_since_is_named(tmp_path: Path) -> None:
    settings = {"run": {"steps": 500, "checkpoint_every": 150, "eval_episodes": 1}}
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "CliffWalking-v1", settings, kill_at=200)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["versions"]["numpy"] = "1.0.0"
    manifest["git"] = {"commit": "0123abc", "dirty": False}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=r"versions.numpy was 1.0.0 and is .* git.commit was 0123abc and is"):
        go(tmp_path, "q-learning", "CliffWalking-v1", settings, resume=True)
    assert json.loads(path.read_text(encoding="utf-8")) == manifest
    go(tmp_path, "q-learning", "CliffWalking-v1", settings, resume=True, allow_drift=True)
    (resumed,) = json.loads(path.read_text(encoding="utf-8"))["resumed"]
    assert (resumed["agent_steps"], resumed["exact"], len(resumed["drift"])) == (150, False, 2)


def test_a_replay_that_was_not_saved_is_told(tmp_path: Path) -> None:
    settings = merge(SMALL, {**DEEP, "run": {**DEEP["run"], "checkpoint_replay": False}})
    with pytest.raises(Killed):
        go(tmp_path, "dqn", "CartPole-v1", settings, kill_at=800)
    go(tmp_path, "dqn", "CartPole-v1", settings, resume=True)
    (resumed,) = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["resumed"]
    assert (resumed["exact"], resumed["drift"]) == (False, [])


@pytest.mark.parametrize(("protocol", "ram"), [("nature-2015", False), ("machado-2018", False), ("machado-2018", True)])
def test_games_go_on_in_the_middle_of_an_episode(protocol: str, ram: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded again at different times, so that what is played again begins at different times."""
    monkeypatch.setattr(atari, "RESEED_AFTER", 200)
    kwargs = {"obs_type": "ram"} if ram else {}
    rules = resolve("dqn", "ALE/Breakout-v5", {"env": {"protocol": protocol}}).protocol

    def make() -> Any:
        return make_env("ALE/Breakout-v5", rules, seed=3, batched=True, num_envs=3, kwargs=kwargs)

    rng, env, lengths = np.random.default_rng(0), make(), set()
    obs = env.reset()
    for _ in range(6):
        for _ in range(110):
            obs = env.step(rng.integers(4, size=3)).obs
        state, other = env.state_dict(), make()
        lengths.add(tuple(state["lengths"]))
        assert np.array_equal(other.resume(state), obs)
        actions = rng.integers(4, size=(40, 3))
        for action in actions:
            for one, again in zip(env.step(action), other.step(action), strict=True):
                assert np.array_equal(one, again)
        obs = env._obs
    assert max(env.state_dict()["seedings"]) >= 2
    assert any(len(set(some)) == 3 for some in lengths)


def test_a_game_is_seeded_again_at_the_first_end_after_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 300)
    rules = resolve("dqn", "ALE/Breakout-v5", {"env": {"protocol": "machado-2018"}}).protocol
    env, starts = make_env("ALE/Breakout-v5", rules, seed=0, batched=True, num_envs=1), []
    env.reset()
    rng, seedings, steps = np.random.default_rng(0), 0, 0
    while seedings < 3:
        last = env.step(rng.integers(4, size=1)).last[0]
        steps += 1
        again = env.state_dict()["seedings"][0] > seedings
        assert again == (last and steps >= 300)
        if again:
            seedings, steps = seedings + 1, 0
            other = make_env("ALE/Breakout-v5", rules, seed=0, batched=True, num_envs=1)
            other.resume(env.state_dict())
            follows = [other.step(np.array([k % 4])).next_obs.tobytes() for k in range(40)]
            assert follows not in starts  # no-op starts and sticky actions fall otherwise
            starts.append(follows)


def test_an_environment_that_was_just_seeded_again_has_nothing_to_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 1)
    rules = resolve("dqn", "ALE/Breakout-v5", {"env": {"protocol": "nature-2015"}}).protocol
    env, other = (make_env("ALE/Breakout-v5", rules, seed=0, batched=True, num_envs=2) for _ in range(2))
    rng = np.random.default_rng(1)
    env.reset()
    for _ in range(2_000):
        step = env.step(rng.integers(4, size=2))
        if step.last.any():
            break
    assert sorted(env.state_dict()["lengths"])[0] == 0
    assert np.array_equal(other.resume(env.state_dict()), step.obs)


def test_one_process_at_a_time_is_at_work_on_a_run(tmp_path: Path) -> None:
    settings = {"run": {"steps": 200, "eval_episodes": 1}}
    go(tmp_path, "random", "CartPole-v1", settings)
    holder = "import sys; from pathlib import Path; from qladder.runners.lock import RunLock\n"
    holder += "with RunLock(Path(sys.argv[1])): input()"
    command = [sys.executable, "-c", holder, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while (tmp_path / "run" / ".lock").read_text().split()[:2] != ["2", str(process.pid)]:
            assert time.monotonic() < deadline
        with pytest.raises(UserError, match=f"run: process {process.pid} on .* is at work on this run"):
            go(tmp_path, "random", "CartPole-v1", {"run": {**settings["run"], "steps": 300}}, resume=True)
        process.kill()
    go(tmp_path, "random", "CartPole-v1", {"run": {**settings["run"], "steps": 300}}, resume=True)


def test_whoever_lost_the_lock_writes_no_more(tmp_path: Path) -> None:
    """As where two machines share a file system that shares no locks."""
    add, count = Episodes.add, [0]

    def other_machine(episodes: Episodes, time_step: Any) -> None:
        count[0] += 1
        if count[0] == 160:
            (tmp_path / "run" / ".lock").write_text("7 1234 elsewhere\n")
        add(episodes, time_step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Episodes, "add", other_machine)
        with pytest.raises(LostLockError, match="process 1234 on elsewhere has taken this run over"):
            go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")] == ["step-000000000150"]
    assert max(line["agent_steps"] for line in told(tmp_path / "run")) <= 150
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["exit_reason"] is None


@pytest.mark.parametrize("from_start", [False, True])
def test_a_run_is_done_again_and_compared(from_start: bool, tmp_path: Path) -> None:
    settings = merge(SMALL, {**DEEP, **EIGHT})
    go(tmp_path, "dqn", "CartPole-v1", settings)
    run = tmp_path / "run"
    told_ = verify(run, from_start=from_start)
    assert told_["identical"]
    start, end = (0 if from_start else 1_056), 1_200
    compared = told_["compared"]
    assert (compared["from"], compared["to"], compared["differing"], compared["drift"]) == (start, end, [], [])
    assert compared["measurements"] == sum(start < m["agent_steps"] <= end for m in told(run)) - 1
    metrics = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(metrics[-2])
    assert record["agent_steps"] > 1_056
    record["loss/td"] *= 1 + 1e-12
    (run / "metrics.jsonl").write_text("\n".join([*metrics[:-2], json.dumps(record), metrics[-1]]) + "\n")
    assert not verify(run, from_start=from_start)["identical"]


def test_a_state_that_training_does_not_reach_is_found(tmp_path: Path) -> None:
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL)
    newest = checkpoint.checkpoints(tmp_path / "run")[0]
    state = checkpoint.load(newest)
    state["agent"]["q"][3, 1] = np.nextafter(state["agent"]["q"][3, 1], 1)
    shutil.rmtree(newest)
    checkpoint.save(tmp_path / "run", 1_200, state)
    told_ = verify(tmp_path / "run")
    assert (told_["identical"], told_["compared"]["differing"]) == (False, ["agent.q"])


def test_a_disk_that_is_full_ends_a_run_by_name_and_loses_nothing(tmp_path: Path) -> None:
    """Files may grow to one of twenty sizes only, and then, as on a full disk, no more; the resumed run is whole."""
    limits = [100, 600, 900, 1_100, 1_500, 2_000, 2_300, 2_500, 2_800, 3_000, 3_500, 4_000, 5_000, 6_500, 8_000]
    limits += [11_000, 14_000, 17_000, 20_000, 23_000, 100_000]
    command = [sys.executable, str(Path(__file__).with_name("limited.py")), str(tmp_path), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ended = dict(map(json.loads, done.stdout.splitlines()))
    assert ended.pop(100_000) == "finished"
    named = {Path(why.partition(":")[0]).name for why in ended.values()}
    assert {"config.toml", "manifest.json", "metrics.jsonl"} <= named
    assert any(name.startswith("step-") for name in named)
    for limit, why in ended.items():
        assert why.endswith("File too large")
        run = tmp_path / str(limit) / "run"
        assert not [path for path in run.rglob(".*writing*") if path.exists()]
        assert all(checkpoint.load(path) for path in checkpoint.checkpoints(run))
        train("q-learning", "CliffWalking-v1", settings={"run": limited.RUN}, out=run.parent, name="run", resume=True)
        check_same(tmp_path / "100000" / "run", run)


def test_measurements_that_were_changed_are_found(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, kill_at=700)
    path = tmp_path / "run" / "metrics.jsonl"
    whole = path.read_bytes()
    for damaged in (whole[:50], whole[:1] + b"#" + whole[2:], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"metrics.jsonl: its first [\d,]+ bytes are not those"):
            go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
        assert path.read_bytes() == damaged
    path.unlink()
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
    assert told(tmp_path / "run")[0]["agent_steps"] > 600
