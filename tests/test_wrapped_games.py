"""Wrappers on Atari: what they see and change, stacks behind them, seeds, resuming, and what they may not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qladder.envs.atari import AtariEnv
from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.envs.make import make_env
from qladder.envs.protocol import Protocol
from qladder.envs.spec import ResumableEnv, TimeStep
from qladder.runners.config import resolve
from qladder.runners.watch import camera_of

PLAIN = Protocol("plain", frame_skip=4, max_pool=True)
FLICKER = "qladder.envs.flicker:flicker"
PERMUTED = "qladder.envs.permuted:permute_pixels"
RAM = {"obs_type": "ram"}


@pytest.fixture(autouse=True)
def own_wrappers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "games_wrapped.py").write_text(
        "import gymnasium as gym\n"
        "import numpy as np\n"
        "class Same(gym.ObservationWrapper):\n"
        "    def observation(self, observation): return observation\n"
        "class Halved(gym.RewardWrapper):\n"
        "    def reward(self, reward): return reward / 2\n"
        "class Small(gym.ObservationWrapper):\n"
        "    def __init__(self, env):\n"
        "        super().__init__(env)\n"
        "        self.observation_space = gym.spaces.Box(0, 255, (1, 42, 42), np.uint8)\n"
        "    def observation(self, observation): return observation[:, ::2, ::2]\n"
        "class Real(gym.ObservationWrapper):\n"
        "    def __init__(self, env):\n"
        "        super().__init__(env)\n"
        "        self.observation_space = gym.spaces.Box(0, 1, (1, 84, 84), np.float32)\n"
        "    def observation(self, observation): return observation / np.float32(255)\n"
        "class Other(gym.ActionWrapper):\n"
        "    def action(self, action): return 0\n"
        "class Twice(gym.Wrapper):\n"
        "    def step(self, action):\n"
        "        self.env.step(action)\n"
        "        return self.env.step(action)\n"
        "class Short(gym.Wrapper):\n"
        "    def step(self, action):\n"
        "        obs, reward, _, _, info = self.env.step(action)\n"
        "        return obs, reward, True, False, info\n"
        "class Raises(gym.ObservationWrapper):\n"
        "    def observation(self, observation): raise ValueError('no light')\n"
        "class Endless(gym.RewardWrapper):\n"
        "    def reward(self, reward): return float('inf')\n"
        "class Cropped(gym.ObservationWrapper):\n"
        "    def observation(self, observation): return observation[:, 1:]\n"
        "class Scribbles(gym.ObservationWrapper):\n"
        "    def observation(self, observation):\n"
        "        seen = observation.copy()\n"
        "        observation[:] = 7\n"
        "        return seen\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def games(*wrappers: str, protocol: Protocol = PLAIN, seeds: tuple[int, ...] = (1, 2), ram: bool = False) -> AtariEnv:
    return AtariEnv(
        "ALE/Klax-v5", protocol, num_envs=len(seeds), seeds=seeds, training=True, ram=ram, wrappers=wrappers
    )


def played(env: ResumableEnv, steps: int, first: int = 0) -> Iterator[TimeStep]:
    assert env.spec.num_actions is not None
    actions = np.random.default_rng(0).integers(env.spec.num_actions, size=(first + steps, env.spec.num_envs))
    for action in actions[first:]:
        yield env.step(action)


def begun(env: AtariEnv) -> TimeStep:
    """The first step."""
    env.reset()
    return next(played(env, 1))


def newest(steps: list[TimeStep]) -> NDArray[np.uint8]:
    return np.stack([step.next_obs[:, -1] for step in steps], axis=1)


@pytest.mark.parametrize("ram", [False, True], ids=["frames", "memory"])
@pytest.mark.parametrize("wrapper", ["Same", "Scribbles"])
def test_a_wrapper_that_changes_nothing_changes_nothing(wrapper: str, ram: bool) -> None:
    """Over ends of episodes, whose stacks begin anew while the other game plays on, and whatever is written into."""
    protocol = replace(PLAIN, sticky=0.25, noop_max=20, episode_cap=4 * 120)
    bare, wrapped = games(protocol=protocol, ram=ram), games(f"games_wrapped:{wrapper}", protocol=protocol, ram=ram)
    assert wrapped.spec == bare.spec
    np.testing.assert_array_equal(bare.reset(), wrapped.reset())
    ends, alone = np.zeros(2, int), 0
    for a, b in zip(played(bare, 300), played(wrapped, 300), strict=True):
        for expected, found in zip(a, b, strict=True):
            np.testing.assert_array_equal(expected, found)
        ends += a.last
        alone += a.last.sum() == 1
    assert (ends >= 2).all()
    assert alone


def test_frames_are_wrapped_one_by_one_and_stacked_behind() -> None:
    bare, wrapped = games(), games(PERMUTED)
    first, before = bare.reset(), wrapped.reset()
    assert (before[:, :-1] == 0).all()
    order = np.sort(first[:, -1].reshape(2, -1))
    np.testing.assert_array_equal(np.sort(before[:, -1].reshape(2, -1)), order)  # all pixels are there
    assert (first[:, -1] != before[:, -1]).any()
    seen = {}
    for a, b in zip(played(bare, 60), played(wrapped, 60), strict=True):
        np.testing.assert_array_equal(b.next_obs[:, :-1], before[:, 1:])
        seen[a.next_obs[0, -1].tobytes()] = b.next_obs[0, -1].tobytes()
        before = b.obs
    assert len(set(seen.values())) == len(seen) > 5  # one permutation for all


def test_what_was_seen_is_not_written_over() -> None:
    env = games("games_wrapped:Same")
    kept = [env.reset(), *[step.obs for step in played(env, 10)]]
    copies = [obs.copy() for obs in kept]
    list(played(env, 20))
    env.reset()
    np.testing.assert_array_equal(kept, copies)


def test_frames_of_another_size() -> None:
    bare, wrapped = games(), games("games_wrapped:Small", "games_wrapped:Halved")
    assert wrapped.spec.obs_shape == (4, 42, 42)
    np.testing.assert_array_equal(bare.reset()[:, :, ::2, ::2], wrapped.reset())


def test_rewards_are_the_wrappers() -> None:
    seeds = (3,)
    bare, wrapped = (
        AtariEnv("ALE/Asterix-v5", PLAIN, num_envs=1, seeds=seeds, training=True, wrappers=wrappers)
        for wrappers in ((), ("games_wrapped:Halved",))
    )
    bare.reset()
    wrapped.reset()
    rewards = [(a.reward[0], b.reward[0]) for a, b in zip(played(bare, 400), played(wrapped, 400), strict=True)]
    assert sum(a for a, _ in rewards) > 0
    assert all(b == a / 2 for a, b in rewards)


def test_flicker_darkens_half_of_the_frames_by_the_games_seed() -> None:
    def frames(seeds: tuple[int, ...]) -> NDArray[np.bool_]:
        env = games(FLICKER, seeds=seeds)
        env.reset()
        return newest([env.step(np.full(len(seeds), t % 3)) for t in range(200)]).any(axis=(2, 3))

    lit = frames((1, 2))
    assert 0.4 < lit.mean() < 0.6  # 400 coins: four standard deviations are 0.1
    assert (lit[0] != lit[1]).any()
    np.testing.assert_array_equal(frames((2,))[0], lit[1])  # the position among the others does not count


@pytest.mark.parametrize("kwargs", [{}, RAM], ids=["frames", "memory"])
def test_a_resumed_game_flickers_on(kwargs: dict[str, Any]) -> None:
    protocol = replace(PLAIN, sticky=0.25, episode_cap=4 * 50)

    def made() -> ResumableEnv:
        return make_env(
            "ALE/Pong-v5",
            protocol,
            seed=5,
            batched=True,
            num_envs=2,
            kwargs=kwargs,
            wrappers=[FLICKER, PERMUTED][: 2 - len(kwargs)],
        )

    env = made()
    env.reset()
    list(played(env, 70))
    state, rest = env.state_dict(), list(played(env, 60, first=70))
    again = made()
    again.resume(state)
    for a, b in zip(rest, played(again, 60, first=70), strict=True):
        for expected, found in zip(a, b, strict=True):
            np.testing.assert_array_equal(expected, found)


def test_whoever_watches_sees_the_bare_screen_and_the_agent_its_wrappers() -> None:
    bare, wrapped = (
        camera_of(resolve("dqn", "ALE/Pong-v5", {"env": {"wrappers": wrappers}}), True, 0, live=False)
        for wrappers in ([], [PERMUTED])
    )
    first, seen = bare.reset()[0, -1], wrapped.reset()[0, -1]
    assert (first != seen).any()
    np.testing.assert_array_equal(np.sort(first, axis=None), np.sort(seen, axis=None))
    np.testing.assert_array_equal(np.asarray(bare.start), np.asarray(wrapped.start))
    bare.close()
    wrapped.close()


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ("games_wrapped:Real", "Atari needs one like it"),
        ("gymnasium.wrappers:FlattenObservation", "Atari needs one like it"),
        ("games_wrapped:Nobody", "module 'games_wrapped' has no attribute 'Nobody'"),
    ],
)
def test_wrappers_that_do_not_fit_are_refused_at_once(wrapper: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        games(wrapper)


@pytest.mark.parametrize("wrapper", ["Other", "Twice", "Short"])
def test_wrappers_may_not_play(wrapper: str) -> None:
    env = games(f"games_wrapped:{wrapper}")
    env.reset()
    with pytest.raises(UserError, match="a wrapper of an Atari game may"):
        list(played(env, 5))


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ("Raises", "ALE/Klax-v5, game 0 in wrappers: a wrapper raised ValueError: no light"),
        ("Endless", "ALE/Klax-v5, game 0 in wrappers: the reward is inf, not one finite number"),
        ("Cropped", r"the observation has shape \(1, 83, 84\) instead of \(1, 84, 84\)"),
    ],
)
def test_what_a_wrapper_does_wrong_is_named(wrapper: str, said: str) -> None:
    with pytest.raises(EnvironmentFaultError, match=said):
        begun(games(f"games_wrapped:{wrapper}"))
