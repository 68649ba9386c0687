"""Environments that break their promise: each is named, with what it did and where, and no memory sees any of it."""

from __future__ import annotations

import collections
from collections.abc import Callable
from itertools import islice, product
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.envs.gym import BatchEnv, GymEnv
from qladder.envs.reading import reader
from qladder.replay.types import Step
from qladder.runners.loop import Ratio, interact

LENGTH = 3
HERE = {"first start": (0, 0), "later start": (2, 0), "step": (2, 1), "last step": (2, LENGTH)}  # (episode, t)


class Honest(gymnasium.Env[Any, Any]):
    """Observes (episode, t) in some space; gives t as reward; ends after three steps; but `breaks` at one place."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any], place: tuple[int, int] | None, breaks: Callable[[Any], Any]) -> None:
        self.observation_space, self.place, self.breaks = space, place, breaks
        self.at = [-1, 0]

    def observe(self) -> Any:
        if isinstance(self.observation_space, spaces.Discrete):
            return self.at[0] * 4 + self.at[1]
        if isinstance(self.observation_space, spaces.MultiDiscrete):
            return np.array(self.at)
        return np.array(self.at, self.observation_space.dtype)

    def give(self, right: Any) -> Any:
        return self.breaks(right) if tuple(self.at) == self.place else right

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.at = [self.at[0] + 1, 0]
        return self.give((self.observe(), {}))

    def step(self, action: Any) -> Any:
        self.at[1] += 1
        return self.give((self.observe(), float(self.at[1]), self.at[1] == LENGTH, False, {}))


VECTOR = spaces.Box(-1e4, 1e4, (2,), np.float32)
BYTES = spaces.Box(0, 255, (2,), np.uint8)
STATES = spaces.Discrete(40)
DIGITS = spaces.MultiDiscrete([10, 4])


def instead(number: int, value: Any) -> Callable[[Any], Any]:
    """What is returned, with another value at this place."""
    return lambda right: (*right[:number], value, *right[number + 1 :])


def raising(error: BaseException) -> Callable[[Any], Any]:
    def breaks(right: Any) -> Any:
        raise error

    return breaks


class Unspeakable:
    """Cannot be compared, measured or printed."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __len__ = __eq__ = __float__ = __bool__ = __array__ = __repr__  # type: ignore[assignment]


OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Any, str]] = {
    "nan": (VECTOR, np.array([np.nan, 0], np.float32), "not finite"),
    "infinite": (VECTOR, np.array([0, -np.inf], np.float32), "not finite"),
    "infinite as float32": (VECTOR, np.array([1e300, 0]), "not finite"),
    "longer": (VECTOR, np.zeros(3, np.float32), r"shape \(3,\) instead of \(2,\)"),
    "of two axes": (VECTOR, np.zeros((1, 2), np.float32), r"shape \(1, 2\) instead of \(2,\)"),
    "one number": (VECTOR, 1.0, r"shape \(\) instead of \(2,\)"),
    "nothing": (VECTOR, None, r"shape \(\) instead of \(2,\)"),
    "empty": (VECTOR, [], r"shape \(0,\) instead of \(2,\)"),
    "ragged": (VECTOR, [1.0, [2.0]], "observation is none: ValueError"),
    "a dictionary": (VECTOR, {"x": 1.0, "y": 2.0}, r"shape \(\)"),
    "words": (VECTOR, ["0.5", "0.5"], "of <U3 instead of float32"),
    "complex": (VECTOR, np.array([1j, 0]), "of complex128 instead of float32"),
    "objects": (VECTOR, np.array([10**400, 0], object), "of object instead of float32"),
    "unspeakable": (VECTOR, Unspeakable(), r"observation is none: RuntimeError: no|shape \(\)"),
    "fractions as bytes": (BYTES, np.array([0.5, 0]), "of float64 instead of uint8"),
    "nan as bytes": (BYTES, np.array([np.nan, 0]), "of float64 instead of uint8"),
    "too large for bytes": (BYTES, [256, 0], "of int64 instead of uint8"),
    "too large for bytes, of their kind": (BYTES, np.array([300, 0], np.uint16), "of uint16 instead of uint8"),
    "whole numbers that a float rounds": (VECTOR, [2**24 + 1, 0], "of int64 instead of float32"),
    "negative bytes": (BYTES, [-1, 0], "of int64 instead of uint8"),
    "negative state": (STATES, -1, "-1, not a whole number from 0 to 39"),
    "state too large": (STATES, 40, "40, not a whole number from 0 to 39"),
    "half a state": (STATES, 1.5, "1.5, not a whole number"),
    "no state": (STATES, None, "None, which is no number"),
    "a word for a state": (STATES, "1", "'1', not a whole number"),
    "nan for a state": (STATES, float("nan"), "nan, which is no number"),
    "two states": (STATES, np.array([1, 2]), "which is no number"),
    "a digit that carries over": (DIGITS, np.array([1, 7]), "7, not a whole number from 0 to 3"),
    "three digits": (DIGITS, np.array([1, 2, 3]), "not 2 whole numbers"),
    "no digits": (DIGITS, 5, "not 2 whole numbers"),
    "unspeakable digits": (DIGITS, Unspeakable(), "a Unspeakable, not 2 whole numbers"),
}
RESETS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "raises": (raising(RuntimeError("the game broke\nat length")), r"reset raised RuntimeError: the game broke \("),
    "exits": (raising(SystemExit(0)), "reset raised SystemExit"),
    "the observation alone": (lambda right: right[0], "reset raised|shape"),
    "returns nothing": (lambda right: None, "reset raised TypeError"),
    "three things": (lambda right: (*right, 1), "reset raised ValueError"),
}
STEPS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "raises": (raising(RuntimeError("the game broke")), "step raised RuntimeError: the game broke"),
    "raises at length": (raising(RuntimeError("x" * 10_000)), "step raised RuntimeError: x{200} "),
    "exits": (raising(SystemExit(0)), "step raised SystemExit"),
    "stops an iteration": (raising(StopIteration()), "step raised StopIteration"),
    "ends a generator": (raising(GeneratorExit()), "step raised GeneratorExit"),
    "has no memory": (raising(MemoryError()), "step raised MemoryError"),
    "four things, as in the old Gym": (lambda right: right[:4], "step raised ValueError"),
    "six things": (lambda right: (*right, 1), "step raised ValueError"),
    "returns nothing": (lambda right: None, "step raised TypeError"),
    "reward nan": (instead(1, float("nan")), "reward is nan, not one finite number"),
    "reward infinite": (instead(1, np.float32("inf")), "reward is .*inf.*, not one finite number"),
    "no reward": (instead(1, None), "reward is None, which is no number"),
    "a word for a reward": (instead(1, "1.0"), "reward is '1.0', not one finite number"),
    "two rewards": (instead(1, np.array([1.0, 2.0])), r"reward is array\(\[1., 2.\]\), not one finite number"),
    "complex reward": (instead(1, 1j), "reward is 1j, which is no number"),
    "unspeakable reward": (instead(1, Unspeakable()), "reward is "),
    "terminated is nothing": (instead(2, None), "terminated is None, neither true nor false"),
    "terminated is a word": (instead(2, "False"), "terminated is 'False', neither true nor false"),
    "terminated is two": (instead(2, 2), "terminated is 2, neither true nor false"),
    "terminated is an array": (instead(2, np.array([False])), r"terminated is array\(\[False\]\), neither"),
    "terminated is nan": (instead(2, float("nan")), "terminated is nan, neither true nor false"),
    "truncated is nothing": (instead(3, None), "truncated is None, neither true nor false"),
    "truncated is a word": (instead(3, "no"), "truncated is 'no', neither true nor false"),
    "truncated is unspeakable": (instead(3, Unspeakable()), "truncated is neither true nor false"),
}
CASES = [
    *(
        pytest.param(space, HERE[where], instead(0, obs), said, id=f"{what}, {where}")
        for (what, (space, obs, said)), where in product(OBSERVATIONS.items(), HERE)
    ),
    *(
        pytest.param(VECTOR, HERE[where], breaks, said, id=f"reset {what}, {where}")
        for (what, (breaks, said)), where in product(RESETS.items(), ("first start", "later start"))
    ),
    *(
        pytest.param(VECTOR, HERE[where], breaks, said, id=f"step {what}, {where}")
        for (what, (breaks, said)), where in product(STEPS.items(), ("step", "last step"))
    ),
]


class Recorder:
    """An agent that keeps what it is to remember."""

    batched = True

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        return np.zeros(len(obs), np.int64), None

    def observe(self, step: Step) -> None:
        self.steps.append(step)


def number(space: spaces.Space[Any], episode: int, t: int) -> Any:
    return [episode, t] if isinstance(space, spaces.Box) else episode * 4 + t


@pytest.mark.parametrize(("space", "place", "breaks", "said"), CASES)
def test_what_an_environment_did_is_named_and_nothing_of_it_remembered(
    space: spaces.Space[Any], place: tuple[int, int], breaks: Callable[[Any], Any], said: str
) -> None:
    """The middle one of three; up to the fault memory has what the places in the episodes say."""
    games = [Honest(space, place if i == 1 else None, breaks) for i in range(3)]
    env = BatchEnv([GymEnv(game, "Honest-v0", 7, "env", i) for i, game in enumerate(games)])
    agent: Any = Recorder()
    moments = interact(env, agent, Ratio(10**9, 1, 1), False)
    with pytest.raises(EnvironmentFaultError, match=said) as fault:
        collections.deque(islice(moments, 20), maxlen=0)
    message = str(fault.value)
    assert "\n" not in message
    assert len(message) < 500
    assert f"environment 1, its step {place[0] * LENGTH + (place[1] if place[1] else 0)}, episode {place[0]}" in message
    assert "run seed 7" in message
    before = place[0] * LENGTH + place[1] - 1 if place[1] or place[0] else 0
    assert len(agent.steps) == before
    for k, step in enumerate(agent.steps):
        episode, t = divmod(k, LENGTH)
        assert np.array_equal(step.obs, [number(space, episode, t)] * 3)
        assert np.array_equal(step.next_obs, [number(space, episode, t + 1)] * 3)
        assert step.reward.tolist() == [t + 1.0] * 3
        assert step.last.tolist() == [t + 1 == LENGTH] * 3


@pytest.mark.parametrize(
    ("space", "obs", "seen"),
    [
        (VECTOR, np.array([0.5, 1.5]), [0.5, 1.5]),
        (VECTOR, [1, 2], [1.0, 2.0]),
        (BYTES, np.array([3.0, 255.0]), [3, 255]),
        (BYTES, [True, False], [1, 0]),
        (STATES, np.float32(3), 3),
        (STATES, np.array(3), 3),
        (DIGITS, [1, 2], 6),
        (STATES, np.array([3]), 3),
    ],
)
def test_numbers_of_another_type_are_taken_where_nothing_is_lost(space: Any, obs: Any, seen: Any) -> None:
    env = GymEnv(Honest(space, (0, 1), instead(0, obs)), "Honest-v0", 0, "env")
    env.reset()
    assert np.array_equal(env.step(0).next_obs, seen)


def test_digits_in_rows_are_read_row_by_row() -> None:
    assert reader(spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])))([[1, 2], [3, 4]]) == ((1 * 3 + 2) * 4 + 3) * 5 + 4


def test_numbers_are_taken_for_flags_and_rewards() -> None:
    for reward in (np.float32(0.5), np.array(0.5), np.array([0.5])):
        given = (np.zeros(2, np.float32), reward, np.bool_(True), 0, {})
        env = GymEnv(Honest(VECTOR, (0, 1), lambda _, given=given: given), "Honest-v0", 0, "env")
        env.reset()
        step = env.step(0)
        assert (step.reward, step.discount, step.last) == (0.5, 0.0, True)
        assert type(step.reward) is float


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Box(0, 1, (0,), np.float32), "arrays of real numbers that are not empty"),
        (spaces.Text(5), "observes Text"),
        (spaces.Dict(a=spaces.Discrete(2)), "observes Dict"),
        (None, "observes None"),
    ],
)
def test_spaces_that_cannot_be_learnt_from_are_refused(space: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        GymEnv(Honest(space, None, lambda right: right), "Honest-v0", 0, "env")


def test_spaces_that_raise_are_told() -> None:
    class Raising(Honest):
        @property
        def action_space(self) -> Any:
            raise RuntimeError("not yet")

    with pytest.raises(UserError, match="'Raising-v0': its spaces: RuntimeError: not yet"):
        GymEnv(Raising(VECTOR, None, lambda right: right), "Raising-v0", 0, "env")


def test_one_that_cannot_be_closed_warns() -> None:
    class Open(Honest):
        def close(self) -> None:
            raise OSError("no display")

    with pytest.warns(RuntimeWarning, match="Open-v0: close raised OSError: no display"):
        GymEnv(Open(VECTOR, None, lambda right: right), "Open-v0", 0, "env").close()
