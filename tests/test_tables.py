"""Agents with a table against hand-worked updates and lambda returns; what they save and refuse."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qladder.agents.double_q import DoubleQLearning
from qladder.agents.dyna_q import DynaQ, Model
from qladder.agents.expected_sarsa import ExpectedSarsa
from qladder.agents.q_lambda import QLambda, QLambdaConfig
from qladder.agents.q_learning import QLearning
from qladder.agents.sarsa import Sarsa
from qladder.agents.schedules import Clocks, Probability, Schedule, constant
from qladder.agents.tables import TableConfig
from qladder.envs.errors import UserError
from qladder.envs.spec import EnvSpec
from qladder.replay.types import Step
from qladder.runners import checkpoint
from qladder.runners.config import resolve
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

STATES = EnvSpec("States-v0", 1, False, (), "int64", 3, 2)
TABLES = ("q-learning", "sarsa", "expected-sarsa", "double-q-learning", "q-lambda", "dyna-q")


def table(cls: Any = QLearning, q: Any = None, seed: int = 0, **settings: Any) -> Any:
    """An agent on 3 states and 2 actions, its table set to `q [3, 2]`."""
    agent = cls(cls.Config(**settings), STATES, seed=seed, device="cpu")
    if q is not None:
        agent.load_state_dict({**agent.state_dict(), "q": np.array(q, float)})
    return agent


def learn(agent: Any, *step: Any, k: int = 1) -> None:
    agent.observe(Step(*step))
    agent.learn(k)


def values(agent: Any) -> list[list[float]]:
    return [agent.values(s) for s in range(3)]


def test_updates_worked_by_hand() -> None:
    agent = table(gamma=0.5, step_size=0.5)
    learn(agent, 1, 0, 4.0, 1.0, False, 2)  # 0 + .5 (4 + .5 * 0 - 0)
    learn(agent, 0, 1, 1.0, 1.0, False, 1)  # 0 + .5 (1 + .5 * 2)
    learn(agent, 1, 0, 4.0, 0.0, True, 1)  # terminated: 2 + .5 (4 - 2), nothing bootstrapped
    assert values(agent) == [[0.0, 1.0], [3.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("cls", [QLearning, Sarsa, ExpectedSarsa, DoubleQLearning, QLambda, DynaQ])
def test_a_truncation_bootstraps_and_a_termination_does_not(cls: Any) -> None:
    for discount, expected in ((1.0, 6.0), (0.0, 1.0)):
        agent = table(cls, gamma=0.5, step_size=1.0, initial_value=10.0)
        learn(agent, 0, 0, 1.0, discount, True, 1)
        changed = 2 * agent.values(0)[0] - 10.0 if cls is DoubleQLearning else agent.values(0)[0]  # one of two tables
        assert (changed, agent.values(0)[1]) == (expected, 10.0)


def test_the_step_size_falls_with_visits() -> None:
    agent = table(gamma=0.0, step_size=1.0, step_size_power=0.5, step_size_min=0.6)
    found = []
    for reward in (4.0, 0.0, 0.0):  # sizes 1, 1/sqrt(2), max(1/sqrt(3), .6)
        learn(agent, 0, 0, reward, 1.0, False, 1)
        found.append(agent.values(0)[0])
    assert found == pytest.approx([4.0, 4 * (1 - 2**-0.5), 4 * (1 - 2**-0.5) * 0.4])


def test_exploration_is_uniform_over_actions() -> None:
    agent = table(epsilon=constant(0.5))
    share = np.mean([agent.act(0, False, True)[0] for _ in range(4000)])
    assert share == pytest.approx(0.25, abs=0.03)  # action 1 only when exploring, and then half the time


def test_sarsa_learns_from_the_action_that_it_then_takes() -> None:
    taken = set()
    for seed in range(8):
        agent = table(Sarsa, [[0, 0], [0, 0], [2, 6]], seed, gamma=0.5, step_size=0.5, epsilon=constant(1.0))
        learn(agent, 0, 1, 1.0, 1.0, False, 2)
        drawn = agent.state_dict()["rng"]
        assert agent.act(2, False, False)[0] == 1  # an evaluation in between takes nothing away
        action = agent.act(2, False, True)[0]
        assert agent.values(0) == [0.0, 1.0 if action == 0 else 2.0]  # .5 (1 + .5 * 2) or .5 (1 + .5 * 6)
        assert agent.state_dict()["rng"] == drawn
        taken.add(action)
    assert taken == {0, 1}


@pytest.mark.parametrize("last", [True, False])
def test_sarsa_chooses_anew_where_an_episode_starts(last: bool) -> None:
    agent = table(Sarsa, [[0, 0], [9, 0], [2, 6]], gamma=0.5, step_size=0.5, epsilon=constant(0.0))
    learn(agent, 0, 0, 1.0, 1.0, last, 2)
    assert agent.values(0)[0] == 2.0  # .5 (1 + .5 * 6): truncated or not
    assert agent.act(1, True, True)[0] == 0  # not action 1, which was chosen in state 2
    assert agent.act(1, False, True)[0] == 0


def test_expected_sarsa_worked_by_hand() -> None:
    agent = table(ExpectedSarsa, [[0, 0], [0, 0], [2, 6]], gamma=0.5, step_size=0.5, epsilon=constant(0.5))
    learn(agent, 0, 0, 1.0, 1.0, False, 2)  # .5 (1 + .5 (.5 * 6 + .5 * 4))
    learn(agent, 0, 1, 1.0, 0.0, True, 2)
    assert agent.values(0) == [1.75, 0.5]


def test_double_q_worked_by_hand() -> None:
    first, second = [[0, 0], [0, 0], [2, 6]], [[0, 0], [0, 0], [10, 4]]
    changed = []
    for seed in range(8):
        agent = table(DoubleQLearning, first, seed, gamma=0.5, step_size=0.5)
        state = agent.state_dict()
        agent.load_state_dict({**state, "second": {**state["second"], "q": np.array(second, float)}})
        assert agent.values(2) == [6.0, 5.0]
        learn(agent, 0, 0, 1.0, 1.0, False, 2)
        state = agent.state_dict()
        changed.append((float(state["q"][0, 0]), float(state["second"]["q"][0, 0])))
        assert (state["visits"][0, 0], state["second"]["visits"][0, 0]) in ((1, 0), (0, 1))
    # The first table's best is action 1, worth 4 to the second: .5 (1 + .5 * 4); the second's is 0: .5 (1 + .5 * 2)
    assert set(changed) == {(1.5, 0.0), (0.0, 1.0)}


def test_q_lambda_worked_by_hand() -> None:
    agent = table(QLambda, gamma=0.5, step_size=0.5, trace_decay=0.5, trace_min=0.0)
    agent.act(0, True, True)
    learn(agent, 0, 0, 0.0, 1.0, False, 1)
    learn(agent, 1, 1, 4.0, 1.0, False, 2)  # error 4; traces 1 and, a step back, .5 * .5
    assert values(agent) == [[0.5, 0.0], [0.0, 2.0], [0.0, 0.0]]
    learn(agent, 2, 0, 0.0, 1.0, False, 1)  # error .5 * 2; traces 1, 1/4, 1/16
    assert values(agent) == [[0.53125, 0.0], [0.0, 2.125], [0.5, 0.0]]
    learn(agent, 1, 0, 8.0, 0.0, True, 2)  # not the greedy action: all traces are cut
    assert values(agent) == [[0.53125, 0.0], [4.0, 2.125], [0.5, 0.0]]
    agent.act(2, True, True)
    learn(agent, 2, 0, 2.5, 0.0, True, 0)  # the next episode: error 2 corrects nothing of the one before
    assert values(agent) == [[0.53125, 0.0], [4.0, 2.125], [1.5, 0.0]]


@pytest.mark.parametrize(("discount", "last"), [(1.0, True), (1.0, False), (0.0, False)])
def test_no_trace_reaches_over_an_end(discount: float, last: bool) -> None:
    """A truncation, a run resumed in another episode, and a life lost within one."""
    agent = table(QLambda, gamma=1.0, step_size=0.5, trace_decay=1.0)
    agent.act(0, True, True)
    learn(agent, 0, 0, 0.0, discount, last, 1)
    agent.act(2, discount == 1.0, True)
    learn(agent, 2, 0, 2.0, 0.0, True, 0)
    assert values(agent) == [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(("traces", "expected"), [("accumulating", 1.25), ("replacing", 1.0)])
def test_another_visit_adds_to_a_trace_or_replaces_it(traces: str, expected: float) -> None:
    agent = table(QLambda, gamma=0.5, step_size=0.5, trace_decay=0.5, traces=traces)
    for reward in (0.0, 2.0):
        learn(agent, 0, 0, reward, 1.0, False, 1)
    assert agent.values(0) == [expected, 0.0]


@pytest.mark.parametrize(("least", "corrected"), [(0.2, 0.5), (0.3, 0.0)])
def test_small_traces_are_dropped(least: float, corrected: float) -> None:
    agent = table(QLambda, gamma=0.5, step_size=0.5, trace_decay=0.5, trace_min=least)
    learn(agent, 0, 0, 0.0, 1.0, False, 1)
    learn(agent, 1, 0, 4.0, 0.0, True, 2)  # .5 * .25 * 4, where the trace of .25 is still there
    assert values(agent) == [[corrected, 0.0], [2.0, 0.0], [0.0, 0.0]]


def test_q_lambda_adds_up_to_lambda_returns_up_to_a_cut() -> None:
    rng = np.random.default_rng(0)
    size, gamma, decay, steps = 1e-6, 0.9, 0.8, 40
    settings = {"gamma": gamma, "step_size": size, "trace_decay": decay, "trace_min": 0.0, "traces": "accumulating"}
    q = rng.normal(size=(3, 2))
    agent = table(QLambda, q, **settings)
    states, rewards = rng.integers(3, size=steps + 1), rng.normal(size=steps)
    greedy = rng.random(steps) < 0.8
    actions = np.where(greedy, q[states[:-1]].argmax(1), q[states[:-1]].argmin(1))
    for t in range(steps):
        learn(agent, int(states[t]), int(actions[t]), float(rewards[t]), 1.0, t == steps - 1, int(states[t + 1]))
    expected, lambda_return = np.zeros((3, 2)), 0.0
    for t in reversed(range(steps)):
        best = q[states[t + 1]].max()
        on = decay if t + 1 < steps and greedy[t + 1] else 0.0
        lambda_return = rewards[t] + gamma * ((1 - on) * best + on * lambda_return)
        expected[states[t], actions[t]] += lambda_return - q[states[t], actions[t]]
    assert (np.array(values(agent)) - q) / size == pytest.approx(expected, abs=1e-3)


def test_dyna_worked_by_hand() -> None:
    agent = table(DynaQ, gamma=0.5, step_size=0.5)
    learn(agent, 1, 0, 4.0, 0.0, True, 2, k=3)  # once from the step, twice from the model: 2, 3, 3.5
    assert values(agent) == [[0.0, 0.0], [3.5, 0.0], [0.0, 0.0]]
    assert agent.state_dict()["updates"] == 3


def test_dyna_corrects_states_that_it_is_not_in() -> None:
    agent = table(DynaQ, gamma=0.5, step_size=1.0)
    learn(agent, 0, 1, 1.0, 1.0, False, 1)
    assert agent.values(0) == [0.0, 1.0]
    learn(agent, 1, 0, 4.0, 0.0, True, 2, k=50)
    assert values(agent) == [[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]]  # 1 + .5 * 4, with no other visit


def test_the_model_has_the_steps_that_nothing_was_learnt_from() -> None:
    agent = table(DynaQ, gamma=0.5, step_size=1.0)
    agent.observe(Step(2, 1, 7.0, 0.0, True, 0))
    learn(agent, 1, 0, 4.0, 0.0, True, 2, k=50)
    assert values(agent) == [[0.0, 0.0], [4.0, 0.0], [0.0, 7.0]]


def test_the_model_gives_pairs_evenly_and_outcomes_as_often_as_they_were() -> None:
    model = Model(0)
    for outcome in ((1.0, 1.0, 2), (1.0, 1.0, 2), (0.0, 0.0, 1), (1.0, 1.0, 2)):
        model.add(0, 1, outcome)
    model.add(2, 0, (5.0, 1.0, 0))
    drawn = [model.sample() for _ in range(4000)]
    share = {each: drawn.count(each) / 4000 for each in set(drawn)}
    expected = {(0, 1, (1.0, 1.0, 2)): 0.375, (0, 1, (0.0, 0.0, 1)): 0.125, (2, 0, (5.0, 1.0, 0)): 0.5}
    assert share == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("name", TABLES)
def test_a_saved_table_goes_on_the_same_way_in_the_middle_of_an_episode(name: str, tmp_path: Path) -> None:
    config = resolve(name, "Taxi-v4", {"agent": {"epsilon": 0.3}})
    env = make_environment(config, batched=False)
    agent, other = (make_agent(config, env.spec, "cpu") for _ in range(2))
    moment = next(islice(interact(env, agent, Ratio(0, 1, 3), False), 777, None))
    assert not moment.time_step.last
    other.load_state_dict(checkpoint.load(checkpoint.save(tmp_path, 777, agent.state_dict())))
    obs = moment.time_step.obs
    for t in range(60):
        action = agent.act(obs, False, True)[0]
        assert other.act(obs, False, True)[0] == action
        next_obs = (obs * 7 + action + t) % 500
        for one in (agent, other):
            learn(one, obs, action, t % 5 - 2.0, float(t % 13 > 0), False, next_obs, k=3)
        obs = next_obs
    np.testing.assert_equal(other.state_dict(), agent.state_dict())


@pytest.mark.parametrize("cls", [QLearning, Sarsa, ExpectedSarsa, DoubleQLearning, QLambda, DynaQ])
def test_greedy_ties_go_to_the_lowest_action_and_change_nothing(cls: Any) -> None:
    agent = table(cls, epsilon=constant(1.0))
    learn(agent, 0, 0, 0.0, 1.0, False, 1)
    before = agent.state_dict()
    assert [agent.act(s, True, False)[0] for s in range(3)] == [0, 0, 0]
    np.testing.assert_equal(agent.state_dict(), before)


def test_schedules_follow_the_clock_that_they_name() -> None:
    clocks = Clocks(frames=400, agent_steps=100, updates=25)
    assert Schedule(0.5, 0.1, 0, "updates", 10)(Clocks(0, 0, 9)) == 0.5
    assert Schedule(0.5, 0.1, 0, "updates", 10)(Clocks(0, 0, 10)) == 0.1
    found = [Schedule(1.0, 0.0, 200, clock, 50)(clocks) for clock in ("frames", "agent_steps", "updates")]  # type: ignore[arg-type]
    assert found == [0.0, 0.75, 1.0]


@pytest.mark.parametrize("clock", ["frames", "agent_steps", "updates"])
@pytest.mark.parametrize("cls", [QLearning, Sarsa, ExpectedSarsa, DoubleQLearning, QLambda, DynaQ])
def test_exploration_ends_when_its_clock_says(cls: Any, clock: Any) -> None:
    ticks = 6 if clock == "updates" else 3
    agent = table(cls, epsilon=Probability(1.0, 0.0, 0, clock, ticks))  # all random before, greedy from then on

    def greedy() -> bool:
        return not any(agent.act(0, True, True)[0] for _ in range(40))  # 0 is the first of equals

    seen = [greedy()]
    for _ in range(3):
        learn(agent, 2, 0, 0.0, 0.0, True, 1, k=2)
        seen.append(greedy())
    assert seen == [False, False, False, True]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trace_decay": 1.5}, r"agent\.trace_decay = 1\.5"),
        ({"trace_min": 1.0}, r"agent\.trace_min = 1\.0"),
        ({"traces": "dutch"}, r"agent\.traces = 'dutch'.*'accumulating' or 'replacing'"),
        ({"step_size": 0.0}, r"agent\.step_size = 0\.0"),
        ({"lambda": 0.9}, r"agent\.lambda: there is no such field"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve("q-lambda", "FrozenLake-v1", {"agent": settings})


@pytest.mark.parametrize("cls", [QLearning, QLambda])
def test_what_is_none_for_a_table_is_refused(cls: Any) -> None:
    pictures = EnvSpec("Pictures-v0", 1, False, (4, 84, 84), "uint8", None, 2)
    with pytest.raises(UserError, match=f"{cls.name} cannot play Pictures-v0.*dqn can"):
        cls(cls.Config(), pictures, seed=0, device="cpu")
    spec = EnvSpec("Vector-v0", 1, False, (8,), "float32", None, 2, (-1.0,) * 8, (1.0,) * 8)
    with pytest.raises(UserError, match=r"agent\.bins = \[10\]: 1e\+08 states for the 8 values"):
        cls(cls.Config(), spec, seed=0, device="cpu")


def test_settings_are_those_of_all_tables_and_its_own() -> None:
    assert (
        QLambdaConfig(gamma=0.5, trace_decay=0.1)
        == resolve("q-lambda", "Corridor-v0", {"agent": {"gamma": 0.5, "trace_decay": 0.1}}).agent
    )
    assert isinstance(QLambdaConfig(), TableConfig)


@pytest.mark.parametrize(
    ("agent", "most", "told"),
    [
        ("q-learning", 10_000_000, r"1e\+07 states; a table holds at most"),
        ("dqn", 1_000_000, r"1e\+06 states, each an input"),
    ],
)
def test_more_states_than_can_be_numbered_are_refused(agent: str, most: int, told: str) -> None:
    config = resolve(agent, "FrozenLake-v1", {})
    spec = replace(STATES, num_states=most + 1, batched=agent == "dqn")
    with pytest.raises(UserError, match=rf"{told}.*{most:,}; a wrapper that shows its numbers as a vector"):
        make_agent(config, spec, "cpu")
