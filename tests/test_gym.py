"""The Gymnasium adapter: endings, seeds, numbering and faults, on scripted environments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from qladder.envs.errors import UserError
from qladder.envs.gym import BatchEnv, GymEnv, make_gym
from qladder.envs.make import make_env
from qladder.envs.protocol import Evaluation, Protocol

PROTOCOL = Protocol("test")


class Tagged(gymnasium.Env[Any, Any]):
    """Observes (episode, t) in a buffer that it overwrites; ends after `length` steps; remembers its seeds."""

    observation_space = spaces.Box(-1e4, 1e4, (2,), np.float32)

    def __init__(self, length: int = 3, terminates: bool = True, bad: Any = None, start: int = 0) -> None:
        self.length, self.terminates, self.bad = length, terminates, bad
        self.action_space = spaces.Discrete(2, start=start)
        self.episode, self.t = -1, 0
        self.seeds: list[int | None] = []
        self.actions: list[int] = []
        self.buffer = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        self.buffer[:] = self.episode, 0
        return self.buffer, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.actions.append(action)
        self.t += 1
        self.buffer[:] = self.episode, self.t
        if self.bad is not None and self.t == 2:
            return self.bad(self)
        end = self.t == self.length
        return self.buffer, 1.5, end and self.terminates, end and not self.terminates, {}


@pytest.fixture
def registered() -> Iterator[None]:
    gymnasium.register("TaggedLong-v0", entry_point=lambda **k: Tagged(length=100, **k))
    gymnasium.register("TaggedLimited-v0", entry_point=lambda **k: Tagged(length=100, **k), max_episode_steps=7)
    yield
    del gymnasium.registry["TaggedLong-v0"], gymnasium.registry["TaggedLimited-v0"]


def adapted(env: gymnasium.Env[Any, Any], index: int = 0, seed: int = 0) -> GymEnv:
    return GymEnv(env, "Tagged-v0", seed, "env", index)


@pytest.mark.parametrize("terminates", [True, False])
def test_an_ending_keeps_its_true_last_observation(terminates: bool) -> None:
    env = adapted(Tagged(terminates=terminates))
    first = env.reset()
    steps = [env.step(0) for _ in range(4)]
    assert first.tolist() == [0, 0]
    assert [s.obs.tolist() for s in steps] == [[0, 1], [0, 2], [1, 0], [1, 1]]
    assert [s.next_obs.tolist() for s in steps] == [[0, 1], [0, 2], [0, 3], [1, 1]]
    assert [s.last for s in steps] == [False, False, True, False]
    assert [s.discount for s in steps] == [1, 1, 0 if terminates else 1, 1]
    assert [s.reward for s in steps] == [1.5] * 4


def test_a_step_that_terminates_and_is_cut_has_terminated() -> None:
    env = adapted(gymnasium.wrappers.TimeLimit(Tagged(), 3))
    env.reset()
    last = [env.step(0) for _ in range(3)][-1]
    assert (last.last, last.discount) == (True, 0)


def test_a_time_limit_is_a_truncation() -> None:
    cut = adapted(gymnasium.wrappers.TimeLimit(Tagged(), 2))
    cut.reset()
    last = [cut.step(0) for _ in range(2)][-1]
    assert (last.last, last.discount, last.next_obs.tolist()) == (True, 1, [0, 2])


def test_every_episode_of_every_environment_and_run_has_a_seed_of_its_own() -> None:
    seeds: list[int | None] = []
    for run_seed in (0, 1):
        for index in (0, 1):
            inner = Tagged(length=1)
            env = adapted(inner, index, run_seed)
            env.reset()
            for _ in range(20):
                env.step(0)
            seeds += inner.seeds
    assert len(set(seeds)) == len(seeds) == 84
    assert None not in seeds


def test_environments_side_by_side_equal_each_alone() -> None:
    batch = BatchEnv([adapted(Tagged(length=n), n) for n in (1, 2, 3)])
    alone = [adapted(Tagged(length=n), n) for n in (1, 2, 3)]
    assert batch.reset().tolist() == [env.reset().tolist() for env in alone]
    assert (batch.spec.num_envs, batch.spec.batched) == (3, True)
    for _ in range(7):
        together = batch.step(np.zeros(3, np.int64))
        for i, env in enumerate(alone):
            for one, many in zip(env.step(0), together, strict=True):
                assert np.asarray(one).tolist() == many[i].tolist()


def test_actions_and_states_count_from_zero() -> None:
    inner = Tagged(start=5)
    env = adapted(inner)
    env.reset()
    env.step(np.int64(1))
    assert inner.actions == [6]
    assert env.spec.num_actions == 2


def test_tuples_of_discrete_become_one_number() -> None:
    env = make_env("Blackjack-v1", PROTOCOL, seed=0)
    assert env.spec.num_states == 32 * 11 * 2
    inner = gymnasium.make("Blackjack-v1")
    adapter = GymEnv(inner, "Blackjack-v1", 0, "env")
    state = adapter.reset()
    assert state == np.ravel_multi_index(inner.unwrapped._get_obs(), (32, 11, 2))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("space", "obs", "state"),
    [
        (spaces.Discrete(4, start=-1), 2, 3),
        (spaces.Tuple([spaces.Discrete(3, start=5), spaces.Discrete(4, start=-2)]), (6, 1), 1 * 4 + 3),
        (spaces.MultiDiscrete([3, 4], start=[5, -2]), np.array([7, -2]), 2 * 4),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), np.array([[1, 2], [3, 4]]), 2 * 3 * 4 * 5 - 1),
    ],
)
def test_states_are_numbers_in_mixed_radix_from_each_ones_start(space: spaces.Space[Any], obs: Any, state: int) -> None:
    assert space.contains(obs)
    inner: Any = Tagged(bad=lambda _: (obs, 0.0, False, False, {}))
    inner.observation_space = space
    inner.t = 1
    env = adapted(inner)
    assert env.step(0).next_obs == state
    assert env.spec.num_states == np.prod([2, 3, 4, 5] if len(np.shape(obs)) == 2 else [3, 4] if np.shape(obs) else [4])


@pytest.mark.parametrize(
    ("id", "training", "limit"),
    [
        ("TaggedLong-v0", True, 50),
        ("TaggedLimited-v0", True, 7),
        ("TaggedLong-v0", False, 20),
        ("TaggedLimited-v0", False, 7),
    ],
)
def test_caps_hold_where_an_environment_has_no_shorter_limit(
    registered: None, id: str, training: bool, limit: int
) -> None:
    protocol = Protocol("test", episode_cap=50, evaluation=Evaluation(episode_cap=20))
    env = GymEnv(make_gym(id, protocol, training=training), id, 0, "env")
    env.reset()
    lengths = [env.step(0).last for _ in range(limit)]
    assert lengths == [False] * (limit - 1) + [True]
    assert env.spec.max_episode_steps == limit


def test_a_limit_in_place_of_the_environments_own() -> None:
    kwargs = {"max_episode_steps": 3}
    env = GymEnv(make_gym("MountainCar-v0", PROTOCOL, kwargs=kwargs), "MountainCar-v0", 0, "env")
    env.reset()
    assert [env.step(0).last for _ in range(3)] == [False, False, True]
    assert (env.spec.max_episode_steps, kwargs) == (3, {"max_episode_steps": 3})


def test_wrappers_go_on_in_their_order() -> None:
    env = make_gym(
        "CartPole-v1", PROTOCOL, wrappers=["gymnasium.wrappers:Autoreset", "gymnasium.wrappers:FlattenObservation"]
    )
    assert [type(env).__name__, type(env.env).__name__] == ["FlattenObservation", "Autoreset"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        ("CartPol-v1", {}, "did you mean 'CartPole-v1'"),
        ("Pong-v5", {}, "did you mean 'ALE/Pong-v5'"),
        ("PongNoFrameskip-v4", {}, "did you mean 'ALE/Pong-v5'"),
        ("Pongg-v5", {}, "did you mean 'ALE/Pong-v5'"),
        ("no_such_module:X-v0", {}, "^environment 'no_such_module:X-v0': No module .* PYTHONPATH="),
        ("CartPole-v1", {"kwargs": {"gravty": 3}}, "gravty"),
        ("CartPole-v1", {"wrappers": ["gymnasium.wrappers:FlattenObservatio"]}, "did you mean 'FlattenObservation'"),
        ("CartPole-v1", {"wrappers": ["flatten"]}, "write module:name"),
        ("CartPole-v1", {"wrappers": ["faulty:raises"]}, "'faulty:raises': ValueError: no such wall"),
        ("CartPole-v1", {"wrappers": ["faulty:forgets"]}, "'faulty:forgets' returned NoneType"),
        ("CartPole-v1", {"wrappers": ["broken:wrap"]}, "'broken:wrap': ZeroDivisionError"),
        ("broken:X-v0", {}, "ZeroDivisionError"),
        ("FrozenLake-v1", {"kwargs": {"map_name": "9x9"}}, "9x9"),
        (
            "CartPole-v1",
            {"kwargs": {"max_episode_steps": 0}},
            "max_episode_steps = 0 must be a number of steps, or none$",
        ),
        ("CartPole-v1", {"num_envs": 2}, "one environment at a time"),
        ("ALE/Pong-v5", {"kwargs": {"mode": 1}}, "their protocol"),
    ],
)
def test_what_there_is_not_is_said_in_a_line(
    id: str, options: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "faulty.py").write_text(
        "def raises(env):\n    raise ValueError('no such wall')\n\ndef forgets(env):\n    env.reset()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        make_env(id, PROTOCOL, seed=0, **options)
    assert "\n" not in str(error.value)


class Transposed(gymnasium.Env[Any, Any]):
    """Pictures whose memory is not in the order of their axes, as a wrapper that transposes them makes them."""

    observation_space = spaces.Box(0, 255, (3, 5, 4), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.pictures = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), dtype=np.uint8)
        self.t = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.t = 0
        return self.pictures[0].transpose(2, 0, 1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.pictures[self.t].transpose(2, 0, 1), float(action), self.t == 8, False, {}


def test_pictures_in_any_order_of_memory_are_played_and_gone_on_with() -> None:
    env, other = adapted(Transposed()), adapted(Transposed())
    assert np.array_equal(env.reset(), Transposed().pictures[0].transpose(2, 0, 1))
    for action in (1, 0, 1, 1, 0):
        obs = env.step(action).obs
    assert np.array_equal(obs, Transposed().pictures[5].transpose(2, 0, 1))
    assert np.array_equal(other.resume(env.state_dict()), obs)
