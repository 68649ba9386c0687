"""What table agents come to, against dynamic programming on known models."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from qladder.agents.double_q import DoubleQLearning
from qladder.agents.dyna_q import DynaQ
from qladder.agents.expected_sarsa import ExpectedSarsa
from qladder.agents.q_lambda import QLambda
from qladder.agents.q_learning import QLearning
from qladder.agents.sarsa import Sarsa
from qladder.agents.schedules import constant
from qladder.envs.mdp import FiniteMDP, epsilon_greedy, from_outcomes, optimal_values
from qladder.envs.spec import EnvSpec, TimeStep
from qladder.runners.config import resolve
from qladder.runners.evaluation import truth
from qladder.runners.loading import make_agent, make_environment
from qladder.runners.loop import Ratio, interact

MDP = from_outcomes(
    [
        (0, 0, 0.7, 1, 0.0, False),
        (0, 0, 0.3, 0, 1.0, False),
        (0, 1, 1.0, 2, 0.0, False),
        (1, 0, 0.5, 0, 2.0, False),
        (1, 0, 0.5, 0, 0.0, True),
        (1, 1, 1.0, 2, 1.0, False),
        (2, 0, 0.6, 0, 3.0, True),
        (2, 0, 0.4, 0, -1.0, False),
        (2, 1, 1.0, 1, 0.5, False),
    ],
    [1.0, 0.0, 0.0],
    2,
)


class Simulated:
    """A finite MDP as an environment without a step limit."""

    spec = EnvSpec("Simulated-v0", 1, False, (), "int64", 3, 2)

    def __init__(self, mdp: FiniteMDP, seed: int) -> None:
        self._outcomes = [np.flatnonzero(mdp.source == i) for i in range(mdp.num_states * mdp.num_actions)]
        self._mdp, self._random, self._state = mdp, np.random.default_rng(seed).random, 0

    def reset(self) -> int:
        self._state = 0
        return 0

    def step(self, action: int) -> TimeStep:
        mdp, left = self._mdp, self._random()
        for i in self._outcomes[self._state * 2 + action]:
            left -= mdp.probability[i]
            if left < 0:
                break
        discount, next_state = float(mdp.discount[i]), int(mdp.next_state[i])
        self._state = next_state if discount else 0
        return TimeStep(self._state, float(mdp.reward[i]), discount, not discount, next_state)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("cls", "epsilon", "target_epsilon"),
    [
        (QLearning, 0.5, 0.0),
        (DoubleQLearning, 0.5, 0.0),
        (QLambda, 0.5, 0.0),
        (DynaQ, 0.5, 0.0),
        (Sarsa, 0.5, 0.5),
        (ExpectedSarsa, 0.5, 0.5),
    ],
)
def test_the_values_are_those_of_dynamic_programming(cls: Any, epsilon: float, target_epsilon: float) -> None:
    settings: dict[str, Any] = {"gamma": 0.9, "step_size": 1.0, "step_size_power": 0.7, "epsilon": constant(epsilon)}
    agent = cls(cls.Config(**settings), Simulated.spec, seed=1, device="cpu")
    planned = 4 if cls is DynaQ else 1
    next(islice(interact(Simulated(MDP, 1), agent, Ratio(0, 1, planned), False), 100_000, None))
    assert np.array([agent.values(s) for s in range(3)]) == pytest.approx(
        optimal_values(MDP, 0.9, epsilon=target_epsilon), abs=0.2
    )


def test_the_best_policy_that_must_explore_is_its_own_best_response() -> None:
    soft = optimal_values(MDP, 0.9, epsilon=0.5)
    policy = epsilon_greedy(soft, 0.5)
    followed = np.zeros((3, 2))
    for _ in range(500):
        followed = MDP.backup(0.9 * (policy * followed).sum(axis=1))
    assert soft == pytest.approx(followed)
    assert np.abs(soft - optimal_values(MDP, 0.9)).min() > 1.0  # so that no agent passes for another


def test_q_learning_finds_the_values_of_value_iteration() -> None:
    flags = {
        "env": {"kwargs": {"is_slippery": False}},
        "agent": {"step_size": 1.0, "step_size_power": 0.0, "epsilon": 1.0},
    }
    config = resolve("q-learning", "FrozenLake-v1", flags)
    known = truth(config)
    assert known is not None
    env = make_environment(config, batched=False)
    agent: Any = make_agent(config, env.spec, "cpu")
    next(islice(interact(env, agent, Ratio(0, 1, 1), False), 60_000, None))
    inner = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]
    assert np.array([agent.values(s) for s in inner]) == pytest.approx(optimal_values(known.mdp, 0.99)[inner], abs=1e-9)
