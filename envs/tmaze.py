"""A T-maze: what is seen at the start tells which way is right at the end (Bakker 2001)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qladder.envs.arguments import check_whole
from qladder.envs.errors import UserError
from qladder.envs.screen import enlarged

NORTH, SOUTH, EAST, WEST = range(4)
CUE_NORTH, CUE_SOUTH, CORRIDOR, JUNCTION = range(4)
PRICE = 0.1  # of walking into a wall
WAY, CUE, HERE = 80, 160, 255  # grey values
SIDE = 32  # screen pixels of a cell in `render`


class TMaze(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A corridor of `length` steps; a cue at its start, in the first observation alone, tells the way at its end.

    Actions: 0 north, 1 south, 2 east, 3 west. East and west walk along the corridor for nothing; a wall costs 0.1.
    North or south at the junction ends the episode: +1 where the cue said so, else -1. After 4 `length` + 20 steps it
    is cut off (truncated). The best is 1; without memory of the cue it is 0.

    Observations are float32 `[4]`, one of them 1: cue north, cue south, corridor, junction. `render()` shows the cue as
    they do: at the start alone.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  # as gymnasium types it

    def __init__(self, length: int = 5, render_mode: str | None = None) -> None:
        check_whole(length=length)
        if length < 1:
            raise UserError(f"length: {length} is not allowed; must be at least 1 step")
        self.render_mode = render_mode
        self._length, self._limit = length, 4 * length + 20
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (4,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(4)
        self._cue = self._cell = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._cue = int(self.np_random.integers(2))
        self._cell = self._steps = 0
        return self._seen(self._cue), {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if action in (NORTH, SOUTH) and self._cell == self._length:
            return self._seen(JUNCTION), 1.0 if int(action) == self._cue else -1.0, True, False, {}
        cell = self._cell + {EAST: 1, WEST: -1}.get(int(action), 0)
        blocked = action in (NORTH, SOUTH) or not 0 <= cell <= self._length
        self._cell = self._cell if blocked else cell
        seen = JUNCTION if self._cell == self._length else CORRIDOR
        return self._seen(seen), -PRICE if blocked else 0.0, False, self._steps >= self._limit, {}

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None:
            return None
        maze = np.zeros((3, self._length + 1), np.uint8)
        maze[1, :] = maze[:, self._length] = WAY
        if self._steps == 0:
            maze[2 * self._cue, 0] = CUE
        maze[1, self._cell] = HERE
        return enlarged(maze, SIDE)

    def _seen(self, which: int) -> NDArray[np.float32]:
        return np.eye(4, dtype=np.float32)[which]


def register() -> None:
    """Makes it known to `gymnasium.make`; importing this module has done so already."""
    if "qladder/TMaze-v0" not in gymnasium.registry:
        gymnasium.register("qladder/TMaze-v0", entry_point="qladder.envs.tmaze:TMaze")


register()
