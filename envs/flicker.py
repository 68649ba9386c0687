"""Observations that go dark now and then, so that one must remember (Hausknecht and Stone 2015, section 4.2)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from qladder.envs.errors import UserError

DARK = 0.5  # of all observations


class Flicker(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Each observation, the first too, is all zeros with this probability, drawn from the environment's generator.

    Of Atari it is each frame, before they are stacked.

    Raises:
        UserError: observations that are no arrays.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], dark: float = DARK) -> None:
        RecordConstructorArgs.__init__(self, dark=dark)
        super().__init__(env)
        if not isinstance(env.observation_space, gymnasium.spaces.Box):
            raise UserError(f"flicker: {env.observation_space} is no array")
        self._dark = dark
        space, zeros = env.observation_space, np.zeros(env.observation_space.shape, env.observation_space.dtype)
        if not space.contains(zeros):
            low, high = np.minimum(space.low, zeros), np.maximum(space.high, zeros)
            self.observation_space = gymnasium.spaces.Box(low, high, dtype=space.dtype.type)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        return np.zeros_like(observation) if self.np_random.random() < self._dark else observation


def flicker(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """As a wrapper: `--env.wrappers qladder.envs.flicker:flicker`; every other observation, on average, is dark."""
    return Flicker(env)
