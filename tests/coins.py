"""A game of two coins, whose return is a distribution that can be written down."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SECOND_GAMMA = 0.5
VALUES = {  # return of action 0 in state 0 with gamma 0.5, and its odds: 0 or 20 at once, then half of 0 or 60
    0.0: 0.25,
    20.0: 0.25,
    30.0: 0.25,
    50.0: 0.25,
}


class Coins(gym.Env[Any, Any]):
    """State 0: action 0 pays 0 or 20 and leads to state 1, action 1 pays 2 and ends; state 1 pays 0 or 60 and ends."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = 0
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        heads = bool(self.np_random.random() < 0.5)
        if self._state == 1:
            return 1, 60.0 * heads, True, False, {}
        if action == 1:
            return 0, 2.0, True, False, {}
        self._state = 1
        return 1, 20.0 * heads, False, False, {}


def quantile(fraction: float) -> float:
    """The exact return below which this fraction of the games of action 0 in state 0 end."""
    values, odds = np.array(list(VALUES)), np.cumsum(list(VALUES.values()))
    return float(values[np.searchsorted(odds, fraction, side="left")])


gym.register(id="tests/Coins-v0", entry_point=Coins, max_episode_steps=10)
