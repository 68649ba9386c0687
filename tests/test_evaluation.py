"""Evaluation's episodes against a plain loop: which ones count, under which rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from qladder.envs.protocol import Evaluation
from qladder.envs.seeding import integer
from qladder.runners.config import Config, resolve
from qladder.runners.evaluation import EVALUATION_ENVS, Policy, play
from qladder.runners.loading import make_agent, make_environment


class Lengths(gymnasium.Env[Any, Any]):
    """One point a step; a seed decides on one of two lengths."""

    observation_space, action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = length(seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


def length(seed: int | None) -> int:
    return 40 if (seed or 0) % 2 else 3


gymnasium.register("Lengths-v0", entry_point=Lengths)


@pytest.fixture
def played() -> tuple[Config, Policy]:
    config = resolve("dqn", "Lengths-v0", {"run": {"learning_starts": 10}})
    env = make_environment(config, batched=True)
    return config, Policy(make_agent(config, env.spec, "cpu"), 2, 0.0, 0)


@pytest.mark.parametrize("episodes", [7, 20, 50])
def test_each_environment_plays_its_share_however_long_its_episodes(played: Any, episodes: int) -> None:
    num_envs = min(episodes, EVALUATION_ENVS)
    expected = []
    for i in range(num_envs):
        share = len(range(i, episodes, num_envs))
        expected += [length(integer(5, "some", i, episode)) for episode in range(share)]
    assert len(expected) == episodes
    assert len(set(expected)) == 2
    assert play(*played, episodes, 5, "some") == expected


def test_the_evaluations_cap_holds_and_not_that_of_training(played: Any) -> None:
    config, policy = played
    protocol = replace(config.protocol, episode_cap=10, evaluation=Evaluation(episode_cap=20))
    returns = play(replace(config, protocol=protocol), policy, 20, 5, "some")
    assert set(returns) == {3, 20}
