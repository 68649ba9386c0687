"""Q-learning and linear Q-learning against hand-worked updates and value iteration."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest

from qladder.agents.fit import bounds
from qladder.agents.linear import LinearConfig
from qladder.agents.linear_q import LinearQ
from qladder.agents.q_learning import QLearning
from qladder.agents.schedules import Clocks, Schedule, constant
from qladder.agents.tables import TableConfig
from qladder.envs.errors import UserError
from qladder.envs.mdp import optimal_values
from qladder.envs.spec import EnvSpec
from qladder.replay.types import Step
from qladder.runners.config import resolve
from qladder.runners.evaluation import truth
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

STATES = EnvSpec("States-v0", 1, False, (), "int64", 3, 2)
VECTORS = EnvSpec("Vectors-v0", 1, False, (1,), "float32", None, 2, (0.0,), (1.0,))


def table(**settings: Any) -> QLearning:
    return QLearning(TableConfig(**settings), STATES, seed=0, device="cpu")


def learn(agent: Any, *step: Any) -> None:
    agent.observe(Step(*step))
    agent.learn(1)


def test_updates_worked_by_hand() -> None:
    agent = table(gamma=0.5, step_size=0.5)
    learn(agent, 1, 0, 4.0, 1.0, False, 2)  # 0 + .5 (4 + .5 * 0 - 0)
    learn(agent, 0, 1, 1.0, 1.0, False, 1)  # 0 + .5 (1 + .5 * 2)
    learn(agent, 1, 0, 4.0, 0.0, True, 1)  # terminated: 2 + .5 (4 - 2), nothing bootstrapped
    assert [agent.values(s) for s in range(3)] == [[0.0, 1.0], [3.0, 0.0], [0.0, 0.0]]


def test_a_truncation_bootstraps_and_a_termination_does_not() -> None:
    for discount, expected in ((1.0, 6.0), (0.0, 1.0)):
        agent = table(gamma=0.5, step_size=1.0, initial_value=10.0)
        learn(agent, 0, 0, 1.0, discount, True, 1)
        assert agent.values(0) == [expected, 10.0]


def test_the_step_size_falls_with_visits() -> None:
    agent = table(gamma=0.0, step_size=1.0, step_size_power=0.5, step_size_min=0.6)
    values = []
    for reward in (4.0, 0.0, 0.0):  # sizes 1, 1/sqrt(2), max(1/sqrt(3), .6)
        learn(agent, 0, 0, reward, 1.0, False, 1)
        values.append(agent.values(0)[0])
    assert values == pytest.approx([4.0, 4 * (1 - 2**-0.5), 4 * (1 - 2**-0.5) * 0.4])


def test_greedy_ties_go_to_the_lowest_action_and_draw_nothing() -> None:
    agent = table(epsilon=constant(1.0))
    before = agent.state_dict()["rng"]
    assert [agent.act(s, False, False)[0] for s in range(3)] == [0, 0, 0]
    assert agent.state_dict()["rng"] == before


def test_exploration_is_uniform_over_actions() -> None:
    agent = table(epsilon=constant(0.5))
    share = np.mean([agent.act(0, False, True)[0] for _ in range(4000)])
    assert share == pytest.approx(0.25, abs=0.03)  # action 1 only when exploring, and then half the time


def test_q_learning_finds_the_values_of_value_iteration() -> None:
    flags = {
        "env": {"kwargs": {"is_slippery": False}},
        "agent": {"step_size": 1.0, "step_size_power": 0.0, "epsilon": 1.0},
    }
    config = resolve("q-learning", "FrozenLake-v1", flags)
    known = truth(config)
    assert known is not None
    env = make_environment(config, batched=False)
    agent = make_agent(config, env.spec, "cpu")
    next(islice(interact(env, agent, Ratio(0, 1, 1), False), 60_000, None))
    assert isinstance(agent, QLearning)
    inner = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]
    assert np.array([agent.values(s) for s in inner]) == pytest.approx(optimal_values(known.mdp, 0.99)[inner], abs=1e-9)


def test_a_linear_update_worked_by_hand() -> None:
    settings = LinearConfig(gamma=0.5, step_size=constant(0.5), initial_value=2.0, tilings=2, tiles=(4,))
    agent = LinearQ(settings, VECTORS, seed=0, device="cpu")
    here, there = np.array([0.1], np.float32), np.array([0.9], np.float32)
    assert agent.values(here) == pytest.approx([2.0, 2.0])
    learn(agent, here, 1, 3.0, 1.0, False, there)  # 2 + .5 (3 + .5 * 2 - 2)
    assert agent.values(here) == pytest.approx([2.0, 3.0])
    assert agent.values(there) == pytest.approx([2.0, 2.0])
    learn(agent, here, 1, 3.0, 0.0, True, there)
    assert agent.values(here) == pytest.approx([2.0, 3.0])


def test_schedules_follow_the_clock_that_they_name() -> None:
    clocks = Clocks(frames=400, agent_steps=100, updates=25)
    assert Schedule(0.5, 0.1, 0, "updates", 10)(Clocks(0, 0, 9)) == 0.5
    assert Schedule(0.5, 0.1, 0, "updates", 10)(Clocks(0, 0, 10)) == 0.1
    values = [Schedule(1.0, 0.0, 200, clock, 50)(clocks) for clock in ("frames", "agent_steps", "updates")]  # type: ignore[arg-type]
    assert values == [0.0, 0.75, 1.0]


@pytest.mark.parametrize(("agent", "said"), [(QLearning, "dqn can"), (LinearQ, "dqn can")])
def test_pictures_are_refused(agent: Any, said: str) -> None:
    pictures = EnvSpec("Pictures-v0", 1, False, (4, 84, 84), "uint8", None, 2)
    with pytest.raises(UserError, match=said):
        agent(agent.Config(), pictures, seed=0, device="cpu")


def test_linear_q_leaves_numbered_states_to_the_table() -> None:
    with pytest.raises(UserError, match="q-learning can"):
        LinearQ(LinearConfig(), STATES, seed=0, device="cpu")


@pytest.mark.parametrize("name", ["q-learning", "linear-q"])
def test_a_saved_agent_goes_on_the_same_way(name: str) -> None:
    config = resolve(name, "CartPole-v1", {})
    env = make_environment(config, batched=False)
    agent, other = (make_agent(config, env.spec, "cpu") for _ in range(2))
    loop = interact(env, agent, Ratio(0, 1, 1), False)
    next(islice(loop, 500, None))
    other.load_state_dict(agent.state_dict())
    obs = [np.array(x, np.float32) for x in np.random.default_rng(0).normal(0, 0.1, (50, 4))]
    assert [agent.act(o, False, True)[0] for o in obs] == [other.act(o, False, True)[0] for o in obs]
    for one in (agent, other):
        learn(one, obs[0], 1, 1.0, 1.0, False, obs[1])
    assert agent.values(obs[0]) == other.values(obs[0])  # type: ignore[attr-defined]


def vector_spec(low: tuple[float, ...], high: tuple[float, ...]) -> EnvSpec:
    return EnvSpec("Vector-v0", 1, False, (len(low),), "float32", None, 2, low, high)


def test_bounds_are_those_given_those_of_the_environment_or_within_reach() -> None:
    spec = vector_spec((-2.0, 0.0, -3e38, -math.inf), (1.0, math.inf, 3e38, 7.0))
    assert bounds(spec, None, None, 4.0) == ([-2.0, 0.0, -4.0, -1.0], [1.0, 8.0, 4.0, 7.0])
    assert bounds(spec, (-9.0,) * 4, None, 4.0) == ((-9.0,) * 4, [1.0, 8.0, 4.0, 7.0])
    with pytest.raises(UserError, match=r"agent\.high has 3 values; Vector-v0 observes 4"):
        bounds(spec, None, (1.0,) * 3, 4.0)


def test_a_table_that_fits_no_memory_is_refused() -> None:
    spec = vector_spec((-1.0,) * 8, (1.0,) * 8)
    with pytest.raises(UserError, match=r"agent\.bins = \[10\]: 1e\+08 states for the 8 values"):
        QLearning(TableConfig(), spec, seed=0, device="cpu")
