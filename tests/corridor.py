"""A short corridor whose every step a random player takes often, and its model."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from qladder.envs.mdp import FiniteMDP, from_outcomes

LENGTH = 4


def move(state: int, action: int) -> tuple[int, float, bool]:
    """Next state, reward and whether it ends: to the right for 1, to the left (from 0 nowhere) for a small price."""
    if action == 0:
        return max(state - 1, 0), -0.25, False
    return state + (state < LENGTH - 1), float(state == LENGTH - 1), state == LENGTH - 1


def model() -> FiniteMDP:
    outcomes = [
        (state, action, 1.0, next_state, reward, over)
        for state in range(LENGTH)
        for action in range(2)
        for next_state, reward, over in [move(state, action)]
    ]
    return from_outcomes(outcomes, [1.0] + [0.0] * (LENGTH - 1), 2)


class Corridor(gym.Env[Any, Any]):
    """From the left end to beyond the right one."""

    observation_space = spaces.Discrete(LENGTH)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = 0
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._state, reward, over = move(self._state, int(action))
        return self._state, reward, over, False, {}


gym.register(id="tests/Corridor-v0", entry_point=Corridor, max_episode_steps=1000)
