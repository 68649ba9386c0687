"""ShapeCatch: a small pixel game in which a shape must be recognised before it is caught or left alone."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qladder.envs.arguments import check_whole
from qladder.envs.errors import UserError
from qladder.envs.screen import enlarged

COLUMNS, ROWS = 20, 19
MARGIN = 4
SHAPES = np.array(
    [
        [[0, 1, 0], [1, 1, 1], [0, 1, 0]],  # a plus: to be caught
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]],  # a cross: to be missed
    ],
    np.uint8,
)
FIRST, LAST = 2, 17  # columns of a shape's and the paddle's middle
REACH = 2  # columns of the paddle on either side of its middle
FALL = 2  # rows a step
SIDE = 8  # screen pixels of one in `render`


class ShapeCatch(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A plus or a cross of five pixels each falls two rows a step on a field of 20 x 19; a paddle of five moves by two.

    Actions: 0 left, 1 stay, 2 right. The eighth step ends the episode: +1 for a plus that is caught or a cross that is
    missed, else -1; all other rewards are 0. Optimal play gets 1.0; a random or a resting paddle about 0, as the shapes
    are equally likely. One observation tells the whole state.

    Observations are uint8 `[1, 20 + 2 m, 20 + 2 m]`, 255 where something is, with a margin of m pixels around the
    field; `down` and `right` show it that many pixels away from the middle, as a moved camera would. `render()` gives
    uint8 `[8 (20 + 2 m), 8 (20 + 2 m), 3]`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  # as gymnasium types it

    def __init__(self, margin: int = MARGIN, down: int = 0, right: int = 0, render_mode: str | None = None) -> None:
        check_whole(margin=margin, down=down, right=right)
        if margin < 0:
            raise UserError(f"margin: {margin} is not allowed; must be at least 0 pixels")
        for name, shift in (("down", down), ("right", right)):
            if abs(shift) > margin:
                raise UserError(f"{name}: {shift} is not allowed; must be within the margin of {margin} pixels")
        self._size = COLUMNS + 2 * margin
        self._top, self._left = margin + down, margin + right
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, self._size, self._size), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._shape = self._row = self._column = self._paddle = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self._row = 1
        self._column, self._paddle = (int(x) for x in self.np_random.integers(FIRST, LAST + 1, 2))
        self._shape = int(self.np_random.integers(len(SHAPES)))
        return self._picture()[None], {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        self._paddle = min(max(self._paddle + 2 * (int(action) - 1), FIRST), LAST)
        self._row += FALL
        terminated = self._row >= ROWS - 2
        reward = 0.0
        if terminated:
            caught = abs(self._paddle - self._column) <= REACH
            reward = 1.0 if caught == (self._shape == 0) else -1.0
        return self._picture()[None], reward, terminated, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        return None if self.render_mode is None else enlarged(self._picture(), SIDE)

    def _picture(self) -> NDArray[np.uint8]:
        field = np.zeros((ROWS, COLUMNS), np.uint8)
        field[self._row - 1 : self._row + 2, self._column - 1 : self._column + 2] = SHAPES[self._shape]
        field[ROWS - 1, self._paddle - REACH : self._paddle + REACH + 1] = 1
        picture = np.zeros((self._size, self._size), np.uint8)
        picture[self._top : self._top + ROWS, self._left : self._left + COLUMNS] = 255 * field
        return picture


def register() -> None:
    """Makes it known to `gymnasium.make`; importing this module has done so already."""
    if "qladder/ShapeCatch-v0" not in gymnasium.registry:
        gymnasium.register("qladder/ShapeCatch-v0", entry_point="qladder.envs.shapes:ShapeCatch")


register()
