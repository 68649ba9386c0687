"""Pictures as a moved camera sees them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from qladder.envs.arguments import picture_shape
from qladder.envs.errors import UserError


class Shifted(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Pictures `[H, W]` or `[C, H, W]` moved down and to the right by so many pixels; the edge is repeated.

    Of Atari it is each frame, as it is scaled to 84 x 84.

    Raises:
        UserError: observations that are no pictures, or smaller than that.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], pixels: int) -> None:
        RecordConstructorArgs.__init__(self, pixels=pixels)
        super().__init__(env)
        if min(picture_shape(env.observation_space, "shifted")[-2:]) <= pixels:
            raise UserError(f"shifted: {env.observation_space} has no more than {pixels} rows or columns")
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
