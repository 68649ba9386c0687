"""The training loop against a tape, the exact ratio of updates, and the independence of random streams."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import numpy as np
import pytest

from qladder.envs.protocol import Evaluation
from qladder.envs.seeding import generator, integer
from qladder.envs.spec import EnvSpec, TimeStep
from qladder.runners.loop import Episodes, Ratio, clip, interact


class ScriptedEnv:
    """Two episodes of two steps, the first truncated; observations are 10 * episode + t."""

    spec = EnvSpec("Scripted-v0", 1, False, (), "int64", 30, 2)

    def __init__(self) -> None:
        self.t, self.episode = 0, 0

    def reset(self) -> int:
        return 0

    def step(self, action: Any) -> TimeStep:
        self.t += 1
        next_obs = 10 * self.episode + self.t
        last = self.t == 2
        discount = 0.0 if last and self.episode else 1.0
        if last:
            self.t, self.episode = 0, self.episode + 1
        return TimeStep(10 * self.episode if last else next_obs, 3.0, discount, last, next_obs)

    def close(self) -> None: ...


class Taper:
    """Writes down what it is asked."""

    Config = None
    batched = False

    def __init__(self) -> None:
        self.tape: list[Any] = []

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        self.tape.append(("act", obs, first, explore))
        return obs % 2, "extra"

    def observe(self, step: Any) -> None:
        self.tape.append(("observe", *step))

    def learn(self, k: int) -> dict[str, Any]:
        self.tape.append(("learn", k))
        return {}

    def health(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_the_loop_against_a_tape() -> None:
    agent, env = Taper(), ScriptedEnv()
    moments = list(islice(interact(env, agent, Ratio(1, 2, 1), clip_rewards=True), 4))
    assert agent.tape == [
        ("act", 0, True, True),
        ("observe", 0, 0, 1.0, 1.0, False, 1, "extra"),
        ("act", 1, False, True),
        ("observe", 1, 1, 1.0, 1.0, True, 2, "extra"),  # truncated: bootstraps from 2, not from 10
        ("act", 10, True, True),
        ("observe", 10, 0, 1.0, 1.0, False, 11, "extra"),
        ("learn", 1),
        ("act", 11, False, True),
        ("observe", 11, 1, 1.0, 0.0, True, 12, "extra"),
    ]
    assert [m.agent_steps for m in moments] == [1, 2, 3, 4]
    assert [m.updates for m in moments] == [0, 0, 1, 1]
    episodes = Episodes(env, Evaluation())
    for moment in moments:
        episodes.add(moment.time_step)
    assert episodes.finished == [(6.0, 2), (6.0, 2)]  # raw rewards, though the agent saw them clipped


@pytest.mark.parametrize("num_envs", [1, 3, 8])
@pytest.mark.parametrize("every", [1, 4, 7])
@pytest.mark.parametrize("updates", [1, 5])
def test_updates_keep_their_ratio_to_agent_steps(num_envs: int, every: int, updates: int) -> None:
    ratio = Ratio(10, every, updates)
    done = 0
    for steps in range(num_envs, 500, num_envs):
        done += ratio.due(steps)
        assert done == ratio.done == max(0, (steps - 10) // every) * updates


def test_a_ratio_goes_on_after_a_resume() -> None:
    straight, resumed = Ratio(10, 4, 2), Ratio(10, 4, 2, done=20)
    straight.due(50)
    assert [straight.due(s) for s in (55, 70)] == [resumed.due(s) for s in (55, 70)]
    refilled = Ratio(60, 4, 2, before=20, done=20)
    assert [refilled.due(s) for s in (55, 60, 64)] == [0, 0, 2]


def test_rewards_are_clipped_and_not_their_signs() -> None:
    raw, clipped = [-5.0, -1.0, -0.3, 0.0, 0.3, 1.0, 7.0], [-1.0, -1.0, -0.3, 0.0, 0.3, 1.0, 1.0]
    assert [clip(reward) for reward in raw] == clip(np.array(raw)).tolist() == clipped


class Staggered:
    """Environment i has episodes of i + 2 steps, ended by turns; observations are 100 * i + 10 * episode + t."""

    def __init__(self, num_envs: int) -> None:
        self.spec = EnvSpec("Staggered-v0", num_envs, True, (), "int64", 1000, 2)
        self.offset = 100 * np.arange(num_envs)
        self.length = np.arange(num_envs) + 2
        self.t = np.zeros(num_envs, np.int64)
        self.episode = np.zeros(num_envs, np.int64)

    def reset(self) -> Any:
        return self.offset.copy()

    def step(self, action: Any) -> TimeStep:
        self.t += 1
        next_obs = self.offset + 10 * self.episode + self.t
        last = self.t == self.length
        discount = np.where(last & (self.episode % 2 == 1), 0.0, 1.0)
        self.t[last], self.episode = 0, self.episode + last
        return TimeStep(self.offset + 10 * self.episode + self.t, np.where(last, -5.0, 0.5), discount, last, next_obs)

    def close(self) -> None: ...


class ArrayTaper(Taper):
    """The same for arrays, written down as lists."""

    batched = True

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        self.tape.append(("act", obs.tolist(), first.tolist(), explore))
        return obs % 2, None

    def observe(self, step: Any) -> None:
        self.tape.append(("observe", *(field.tolist() for field in step[:-1])))


def test_environments_side_by_side_against_a_tape() -> None:
    agent = ArrayTaper()
    env = Staggered(2)
    moments = list(islice(interact(env, agent, Ratio(2, 3, 2), clip_rewards=True), 4))
    assert agent.tape == [
        ("act", [0, 100], [True, True], True),
        ("observe", [0, 100], [0, 0], [0.5, 0.5], [1, 1], [False, False], [1, 101]),
        ("act", [1, 101], [False, False], True),
        ("observe", [1, 101], [1, 1], [-1, 0.5], [1, 1], [True, False], [2, 102]),
        ("act", [10, 102], [True, False], True),
        ("observe", [10, 102], [0, 0], [0.5, -1], [1, 1], [False, True], [11, 103]),
        ("learn", 2),  # at 6 agent steps 4 are past the start: one third is whole
        ("act", [11, 110], [False, True], True),
        ("observe", [11, 110], [1, 0], [-1, 0.5], [0, 1], [True, False], [12, 111]),
        ("learn", 2),
    ]
    assert [m.agent_steps for m in moments] == [2, 4, 6, 8]
    episodes = Episodes(env, Evaluation())
    for moment in moments:
        episodes.add(moment.time_step)
    assert episodes.finished == [(-4.5, 2), (-4.0, 3), (-4.5, 2)]


@pytest.mark.parametrize("num_envs", [1, 3, 8])
@pytest.mark.parametrize("every", [1, 4, 7])
def test_the_loop_learns_as_often_as_the_ratio_says(num_envs: int, every: int) -> None:
    agent = ArrayTaper()
    for moment in islice(interact(Staggered(num_envs), agent, Ratio(20, every, 1), False), 60):
        learnt = sum(entry[1] for entry in agent.tape if entry[0] == "learn")
        assert learnt == moment.updates == max(0, moment.agent_steps - 20) // every
    assert 0 not in [entry[1] for entry in agent.tape if entry[0] == "learn"]
    assert moment.agent_steps == 60 * num_envs


def test_episodes_side_by_side_are_counted_each() -> None:
    class Two:
        spec = EnvSpec("Two-v0", 2, True, (1,), "float32", None, 2)

    episodes = Episodes(Two(), Evaluation())  # type: ignore[arg-type]
    for reward, last in (([1, 2], [False, True]), ([3, 4], [True, False])):
        episodes.add(TimeStep(None, np.array(reward), None, np.array(last), None))
    assert episodes.finished == [(2.0, 1), (4.0, 2)]


def test_the_last_returns_are_those_that_the_protocol_counts() -> None:
    class Two:
        spec = EnvSpec("Two-v0", 2, True, (1,), "float32", None, 2)

    counted, timed = (
        Episodes(Two(), evaluation)  # type: ignore[arg-type]
        for evaluation in (Evaluation(episodes=3), Evaluation(episodes=1, last_steps=6))
    )
    for episodes in (counted, timed):
        assert episodes.last_returns() == []
        for reward, last in (
            ([1, 2], [False, True]), ([3, 4], [True, False]), ([5, 6], [True, True]), ([7, 8], [False, False]),
        ):  # fmt: skip
            episodes.add(TimeStep(None, np.array(reward), None, np.array(last), None))
    assert counted.last_returns() == [4.0, 5.0, 10.0]  # of 2 (at 2 agent steps), 4 (at 4), 5 and 10 (at 6)
    assert timed.last_returns() == [4.0, 5.0, 10.0]  # 8 agent steps by now: those that ended after the second
    again = Episodes(Two(), Evaluation(episodes=1, last_steps=6))  # type: ignore[arg-type]
    again.load_state_dict(json.loads(json.dumps(timed.state_dict(), default=np.ndarray.tolist), object_hook=arrays))
    for episodes in (timed, again):
        episodes.add(TimeStep(None, np.array([1, 1]), None, np.array([False, True]), None))
        assert episodes.last_returns() == [5.0, 10.0, 9.0]


def arrays(state: dict[str, Any]) -> dict[str, Any]:
    return state | {name: np.array(state[name]) for name in ("return", "length")}


def test_no_two_streams_are_the_same() -> None:
    streams = ("env", "evaluation", "evaluation-at-300", "network")
    keys = [(s, n, e, k) for s in range(21) for n in streams for e in range(4) for k in range(20)]
    assert len({integer(s, n, e, k) for s, n, e, k in keys}) == len(keys)
    draws = {generator(s, n).integers(2**62) for s in range(50) for n in ("explore", "replay", "network")}
    assert len(draws) == 150
    assert integer(2**63 - 1, "env") != integer(2**63 - 1 - 2**32, "env")
    assert integer(3, "env", 1) == integer(3, "env", 1) != integer(3, "env", 1, 0)
