"""Environments that are brought to the middle of an episode by playing it again, and compared on the way."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from qladder.envs import atari
from qladder.envs.errors import EnvironmentFaultError
from qladder.envs.journal import fingerprint
from qladder.envs.make import make_env
from qladder.runners.config import resolve


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


def test_games_that_go_another_way_are_not_gone_on_with() -> None:
    rules = resolve("dqn", "ALE/Breakout-v5", {"env": {"protocol": "nature-2015"}}).protocol
    env, other = (make_env("ALE/Breakout-v5", rules, seed=3, batched=True, num_envs=2) for _ in range(2))
    env.reset()
    for k in range(40):
        env.step(np.array([2 + k % 2, 3]))
    state = env.state_dict()
    actions = state["actions"].copy()
    actions[30], actions[31] = actions[31], actions[30]  # the paddle is back where it was
    with pytest.raises(EnvironmentFaultError, match="not deterministic"):
        other.resume({**state, "actions": actions})
    assert np.array_equal(other.resume(state), env._obs)


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


class Forgetful(gymnasium.Env[int, int]):
    """Two states by chance: at any one place a repetition often agrees, on its way there it does not."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)
    rng = np.random.default_rng(0)

    def reset(self, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return int(self.rng.integers(2)), 0.0, False, False, {}


gymnasium.register("Forgetful-v0", Forgetful, max_episode_steps=400)


def test_all_that_was_seen_on_the_way_is_compared() -> None:
    def make() -> Any:
        return make_env("Forgetful-v0", resolve("q-learning", "FrozenLake-v1", {}).protocol, seed=0)

    for _ in range(20):
        env = make()
        env.reset()
        for _ in range(60):
            env.step(0)
        with pytest.raises(EnvironmentFaultError, match="not deterministic"):
            make().resume(env.state_dict())


class Dealt(gymnasium.Env[int, int]):
    """Only its first observation, or only its rewards, are another in a second process."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)
    card, reward = 0, -1.0

    def reset(self, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        return self.card, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 0, self.reward, False, False, {}


gymnasium.register("Dealt-v0", Dealt, max_episode_steps=400)


@pytest.mark.parametrize(("name", "value"), [("card", 1), ("reward", -2.0), ("reward", 0.0)])
def test_the_first_observation_and_each_reward_are_compared_too(
    name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of -1 and -2 Python's hash is the same."""

    def make() -> Any:
        return make_env("Dealt-v0", resolve("q-learning", "FrozenLake-v1", {}).protocol, seed=0)

    env = make()
    env.reset()
    for _ in range(3):
        env.step(0)
    assert make().resume(env.state_dict()) == 0
    monkeypatch.setattr(Dealt, name, value)
    with pytest.raises(EnvironmentFaultError, match="not deterministic"):
        make().resume(env.state_dict())


class Brightened(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Only the frames that episodes begin with, seeded or not, are another in a second process."""

    add: dict[bool, int] = {}  # noqa: RUF012  # set by a test

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return obs + np.uint8(self.add.get(seed is not None, 0)), info

    def observation(self, observation: Any) -> Any:
        return observation


@pytest.mark.parametrize("seeded", [True, False])
def test_a_games_first_frame_is_compared_after_it_has_left_the_stack(
    seeded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        rules = resolve("dqn", "ALE/Breakout-v5", {"env": {"protocol": "nature-2015"}}).protocol
        wrappers = [f"{__name__}:Brightened"]
        return make_env("ALE/Breakout-v5", rules, seed=0, batched=True, num_envs=1, wrappers=wrappers)

    env = make()
    env.reset()
    while not seeded and not env.step(np.array([1])).last[0]:  # the ball falls past a paddle that rests
        pass
    for _ in range(6):
        env.step(np.array([0]))
    assert np.array_equal(make().resume(env.state_dict()), env._obs)
    monkeypatch.setattr(Brightened, "add", {seeded: 1})
    with pytest.raises(EnvironmentFaultError, match="not deterministic"):
        make().resume(env.state_dict())


def test_numbers_larger_than_arrays_hold_are_compared_as_they_are() -> None:
    assert fingerprint(2**70) == fingerprint(int("1180591620717411303424"))
    assert len({fingerprint(2**70), fingerprint(2**70 + 1), fingerprint(-1), fingerprint(-2)}) == 4
