"""Crossing: a small pixel game in which it matters how things move, always seen from the same place."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qladder.envs.screen import enlarged

SIDE, BAND = 28, 4  # pixels of the field and of a band: a lane, or the kerb at either end
LANES = SIDE // BAND - 2
LEFT = 13  # column of the walker's left half
CARS = np.array(  # by speed: those that drive to the right; the nose tells where to
    [
        [[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]],
        [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]],
    ],
    np.uint8,
)
SPEEDS = (1, 3)  # pixels a step
LENGTH = CARS.shape[2]
GAP = 8  # pixels at least between the left ends of a lane's two cars, either way around
LIMIT = 40  # steps
SCREEN = 8  # screen pixels of one in `render`


class Crossing(gymnasium.Env[NDArray[np.uint8], np.int64]):
    """A walker crosses five lanes of cars that come from either side, slow or fast; two cars in each, going around.

    Actions: 0 back, 1 stay, 2 ahead, by one band of four pixels; then the cars move by one pixel or by three. A car's
    nose tells its direction, a third row of pixels that it is fast, so that one observation tells the whole state.
    Reward: 1/6 for each band ahead, -1/6 for each back. A crash ends the episode, as the other kerb does. The best
    return is 1.0: but for one layout in a thousand there is a way across within the 40 steps of an episode.

    Observations are uint8 `[1, 28, 28]`, 255 where something is. `render()` gives uint8 `[224, 224, 3]`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012  # as gymnasium types it

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, SIDE, SIDE), np.uint8)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._band = 0  # 0 is the kerb below
        self._cars = np.zeros((LANES, 2), np.int64)  # columns of their left ends
        self._speeds = np.zeros(LANES, np.int64)  # negative: to the left

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self._band = 0
        first = self.np_random.integers(SIDE, size=LANES)
        self._cars = np.stack([first, first + self.np_random.integers(GAP, SIDE - GAP + 1, LANES)], axis=1) % SIDE
        self._speeds = self.np_random.choice(SPEEDS, LANES) * self.np_random.choice((-1, 1), LANES)
        return self._picture()[None], {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        before = self._band
        self._band = max(before + int(action) - 1, 0)
        self._cars = (self._cars + self._speeds[:, None]) % SIDE
        reward = (self._band - before) / (LANES + 1)
        terminated = self._crashed() or self._band == LANES + 1
        return self._picture()[None], reward, terminated, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        return None if self.render_mode is None else enlarged(self._picture(), SCREEN)

    def _crashed(self) -> bool:
        if not 1 <= self._band <= LANES:
            return False
        under = (self._cars[self._band - 1][:, None] + np.arange(LENGTH)) % SIDE
        return bool(np.isin(under, (LEFT, LEFT + 1)).any())

    def _picture(self) -> NDArray[np.uint8]:
        picture = np.zeros((SIDE, SIDE), np.uint8)
        for lane, (cars, speed) in enumerate(zip(self._cars, self._speeds, strict=True)):
            car = CARS[SPEEDS.index(abs(int(speed)))]
            top = SIDE - BAND * (lane + 2)
            for column in cars:
                where = (column + np.arange(LENGTH)) % SIDE
                picture[top : top + 3, where] = car if speed > 0 else car[:, ::-1]
        top = SIDE - BAND * (self._band + 1)
        picture[top + 1 : top + 3, LEFT : LEFT + 2] = 1
        return 255 * picture


def register() -> None:
    """Makes it known to `gymnasium.make`; importing this module has done so already."""
    if "qladder/Crossing-v0" not in gymnasium.registry:
        gymnasium.register("qladder/Crossing-v0", entry_point="qladder.envs.crossing:Crossing", max_episode_steps=LIMIT)


register()
