"""A corridor whose end pays for what was seen at its start: no memory, no reward; all values are known."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

LENGTH = 3  # steps from the cue to the choice


class Recall(gym.Env[Any, Any]):
    """Observation 0 or 1 is the cue, 2 the corridor, 3 its end, where the cue's action pays 1 and the other -1."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._cue, self._place = int(self.np_random.integers(2)), 0
        return self._cue, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._place == LENGTH:
            return 3, 1.0 if action == self._cue else -1.0, True, False, {}
        self._place += 1
        return 3 if self._place == LENGTH else 2, 0.0, False, False, {}


def optimal_values(cue: int, gamma: float) -> list[list[float]]:
    """Q* `[LENGTH + 1, 2]` of the underlying MDP, whose state is the cue and the place, by value iteration."""
    values = [[0.0, 0.0] for _ in range(LENGTH + 1)]
    for _ in range(LENGTH + 1):
        for place in range(LENGTH):
            values[place] = [gamma * max(values[place + 1])] * 2
        values[LENGTH] = [1.0 if action == cue else -1.0 for action in (0, 1)]
    return values


gym.register(id="tests/Recall-v0", entry_point=Recall)
