"""The latest vectors side by side, for agents that look no further back, as pictures are stacked."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import FlattenObservation, FrameStackObservation

from qladder.envs.errors import UserError

Env = gymnasium.Env[Any, Any]


def stacked(env: Env, size: int) -> Env:
    """Vectors `[D]` as the latest `size` of them, `[size * D]`, the oldest first; the first is repeated at a reset.

    Raises:
        UserError: observations that are no vectors.
    """
    space = env.observation_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"stacked vectors: {space} is no vector")
    return FlattenObservation(FrameStackObservation(env, size, padding_type="reset"))


def stack_2(env: Env) -> Env:
    """As a wrapper: `--env.wrappers qladder.envs.stacked:stack_2`."""
    return stacked(env, 2)


def stack_4(env: Env) -> Env:
    """As a wrapper: `--env.wrappers qladder.envs.stacked:stack_4`."""
    return stacked(env, 4)


def stack_8(env: Env) -> Env:
    """As a wrapper: `--env.wrappers qladder.envs.stacked:stack_8`."""
    return stacked(env, 8)
