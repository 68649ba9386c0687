"""Pictures as a moved camera sees them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qladder.envs.errors import UserError


class Shifted(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Pictures `[H, W]` or `[C, H, W]` moved down and to the right by so many pixels; the edge is repeated.

    Of Atari it is each frame, as it is scaled to 84 x 84.

    Raises:
        UserError: observations that are no pictures, or smaller than that.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], pixels: int) -> None:
        super().__init__(env)
        space = env.observation_space
        shape = space.shape if isinstance(space, gymnasium.spaces.Box) else ()
        colours_last = len(shape) == 3 and shape[2] in (1, 3, 4)
        if len(shape) not in (2, 3) or colours_last or min(shape[-2:]) <= pixels:
            raise UserError(f"shifted: {space} is no picture of more than {pixels} rows and columns")
        self._pixels = pixels

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        height, width = observation.shape[-2:]
        beside = [(0, 0)] * (observation.ndim - 2) + [(self._pixels, 0)] * 2
        return np.ascontiguousarray(np.pad(observation, beside, "edge")[..., :height, :width])


def shift_1(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """As a wrapper: `--env.eval_wrappers qladder.envs.shifted:shift_1`; down and to the right by a pixel."""
    return Shifted(env, 1)


def shift_2(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """As a wrapper: by two pixels."""
    return Shifted(env, 2)


def shift_4(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """As a wrapper: by four pixels."""
    return Shifted(env, 4)
