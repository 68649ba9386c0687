"""Pictures whose pixels lie elsewhere: nothing that is in them is lost but what is next to what."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from qladder.envs.arguments import picture_shape
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator

BLOCK = 4  # pixels a side


class Permuted(gymnasium.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """Pictures `[H, W]` or `[C, H, W]` whose pixels, or whole blocks of them, are in one fixed random order.

    The permutation is the same for every channel and in every episode of a run; another seed of the run has another.
    `afresh`: each episode has its own, drawn from the environment's generator.

    Raises:
        UserError: observations that are no pictures, or whose sides are no multiples of `block`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], run_seed: int, block: int = 1, afresh: bool = False) -> None:
        RecordConstructorArgs.__init__(self, run_seed=run_seed, block=block, afresh=afresh)
        super().__init__(env)
        *channels, self._height, self._width = picture_shape(env.observation_space, "permuted pixels")
        self._channels = math.prod(channels)
        if self._height % block or self._width % block:
            raise UserError(
                f"permuted blocks: {self._height} x {self._width} pixels are no whole number of {block} x {block}"
            )
        self._block, self._afresh = block, afresh
        self._places = self._height * self._width // block**2
        self._order = generator(run_seed, f"permutation of blocks of {block}").permutation(self._places)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        if self._afresh:
            self._order = self.np_random.permutation(self._places)
        return self.observation(obs), info

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        c, b = self._channels, self._block
        rows, columns = self._height // b, self._width // b
        blocks = observation.reshape(c, rows, b, columns, b).transpose(0, 1, 3, 2, 4).reshape(c, rows * columns, b, b)
        mixed = blocks[:, self._order].reshape(c, rows, columns, b, b).transpose(0, 1, 3, 2, 4)
        return np.ascontiguousarray(mixed).reshape(observation.shape)


def permute_pixels(env: gymnasium.Env[Any, Any], run_seed: int) -> gymnasium.Env[Any, Any]:
    """As a wrapper: `--env.wrappers qladder.envs.permuted:permute_pixels`; neither shape nor place is left."""
    return Permuted(env, run_seed)


def permute_blocks(env: gymnasium.Env[Any, Any], run_seed: int) -> gymnasium.Env[Any, Any]:
    """As a wrapper: blocks of 4 x 4 pixels change places; what is within them stays next to each other."""
    return Permuted(env, run_seed, BLOCK)


def permute_afresh(env: gymnasium.Env[Any, Any], run_seed: int) -> gymnasium.Env[Any, Any]:
    """As a wrapper: pixels in another order in each episode, of which nothing can be learnt but how many are lit."""
    return Permuted(env, run_seed, afresh=True)
