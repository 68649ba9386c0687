"""Epsilon-greedy exploration of N environments, with random actions that may last."""

from __future__ import annotations

from typing import Any

import numpy as np


class Exploration:
    """Which environments act at random, drawn for each of them alone.

    With a `power`, a random action lasts a number of steps that is zeta-distributed with this exponent (Dabney et al.
    2021), at most to the end of its episode.
    """

    def __init__(self, num_envs: int, num_actions: int, power: float | None, rng: np.random.Generator) -> None:
        self._num_actions, self._power, self._rng = num_actions, power, rng
        self._left = np.zeros(num_envs, np.int64)  # steps that the random action goes on
        self._action = np.zeros(num_envs, np.int64)

    def __call__(self, epsilon: float, first: Any) -> tuple[Any, Any]:
        """Whether to act at random `[N]`, and the random actions `[N]`; `first [N]` marks episode starts."""
        starts = self._rng.random(len(first)) < epsilon
        action = self._rng.integers(self._num_actions, size=len(first))
        if self._power is None:
            return starts, action
        going_on = (self._left > 0) & ~first
        starts &= ~going_on
        self._action = np.where(going_on, self._action, action)
        length = self._rng.zipf(self._power, size=len(first))
        self._left = np.where(going_on, self._left - 1, np.where(starts, length - 1, 0))
        return starts | going_on, self._action

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self._rng.bit_generator.state, "left": self._left, "action": self._action}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._left, self._action = state["left"], state["action"]
