"""Catch: a ball and a paddle on a 10 x 10 grid, a game from pixels that is small enough for tests."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qladder.envs.arguments import check_whole
from qladder.envs.errors import UserError

GRID = 10
RENDER_SIZE = 160


class Catch(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A ball falls from a random column of a 10 x 10 grid, a row in each step; a paddle on the bottom row catches it.

    Catch appears in Mnih et al. (2014) and, in this form with a paddle of one cell, in bsuite (Osband et al. 2020).
    Actions: 0 left, 1 stay, 2 right; the paddle starts in column 5 and stops at the walls. The ninth step ends the
    episode with +1 if the ball is caught, else -1; all other rewards are 0. One observation tells the whole state.

    Observations are uint8 `[1, size, size]`, 255 where ball or paddle is, else 0. A larger `size` shows the same grid
    with cells of `size // 10` pixels, centred. `render()` gives uint8 `[160, 160, 3]`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as gymnasium types it

    def __init__(self, size: int = GRID, render_mode: str | None = None) -> None:
        check_whole(size=size)
        if size < GRID:
            raise UserError(f"size: {size} is not allowed; must be at least {GRID} pixels")
        self.size = size
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, size, size), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._row = self._column = self._paddle = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self._row = 0
        self._column = int(self.np_random.integers(GRID))
        self._paddle = GRID // 2
        return self._picture(self.size)[None], {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self._paddle = min(max(self._paddle + int(action) - 1, 0), GRID - 1)
        self._row += 1
        terminated = self._row == GRID - 1
        reward = 0.0
        if terminated:
            reward = 1.0 if self._paddle == self._column else -1.0
        return self._picture(self.size)[None], reward, terminated, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None:
            return None
        return np.repeat(self._picture(RENDER_SIZE)[:, :, None], 3, axis=2)

    def _picture(self, size: int) -> NDArray[np.uint8]:
        cell = size // GRID
        margin = (size - GRID * cell) // 2
        picture = np.zeros((size, size), np.uint8)
        for row, column in ((self._row, self._column), (GRID - 1, self._paddle)):
            top, left = margin + row * cell, margin + column * cell
            picture[top : top + cell, left : left + cell] = 255
        return picture


def register() -> None:
    """Makes both sizes known to `gymnasium.make`; importing this module has done so already."""
    for env_id, kwargs in (("qladder/Catch-v0", {}), ("qladder/Catch84-v0", {"size": 84})):
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point="qladder.envs.catch:Catch", kwargs=kwargs)


register()
