"""Sorting as a decision problem: numbers are put in order by exchanges of neighbours."""

from __future__ import annotations

import math
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qladder.envs.arguments import check_whole
from qladder.envs.errors import UserError
from qladder.envs.screen import enlarged

PRICE = 0.05  # of an exchange
FINE = 1e-4  # of the range: numbers that a float32 cannot tell apart are in order whichever is first
HEIGHT, BAR, SIDE = 24, 4, 8  # pixels of a bar, and screen pixels of one in `render`


class Sort(gymnasium.Env[Any, np.int64]):
    """`k` numbers from `[low, high)`; action i exchanges the i-th and the next for -0.05, the last action stops.

    Stopping ends the episode with +1 where no number is smaller than the one before it, else with -1. After 3 k
    exchanges the episode is cut off (truncated). With four numbers the best that can be had is 0.85 on average: of 24
    orders the mean number of exchanges is 3.

    `view` says what is seen of them: `reals`, float32 `[k]`, or `order`, the number that has bit i where the i-th is no
    larger than the next: what sorting is about, and nothing else. `render()` shows them as bars.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012  # as gymnasium types it

    def __init__(
        self,
        k: int = 4,
        low: float = 0.0,
        high: float = 1.0,
        view: Literal["reals", "order"] = "reals",
        render_mode: str | None = None,
    ) -> None:
        check_whole(k=k)
        if k < 2:
            raise UserError(f"k: {k} is not allowed; must be at least 2 numbers")
        if not -math.inf < low < high < math.inf:
            raise UserError(f"low and high: {low} and {high} are not allowed; both finite, the lower one must be first")
        if np.spacing(np.float32(max(abs(low), abs(high)))) > (high - low) * FINE:
            raise UserError(
                f"low and high: {low} and {high} are too near to each other for numbers between them to differ"
            )
        if view not in ("reals", "order"):
            raise UserError(f"view: '{view}' is not allowed; must be 'reals' or 'order'")
        self.render_mode = render_mode
        self._k, self._low, self._high, self._view = k, low, high, view
        self.observation_space = (
            gymnasium.spaces.Box(low, high, (k,), np.float32)
            if view == "reals"
            else gymnasium.spaces.Discrete(2 ** (k - 1))
        )
        self.action_space = gymnasium.spaces.Discrete(k)
        self._numbers: NDArray[np.float32] = np.zeros(k, np.float32)
        self._moves = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._numbers = self.np_random.uniform(self._low, self._high, self._k).astype(np.float32)
        self._moves = 0
        return self._seen(), {}

    def step(self, action: np.int64 | int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        i = int(action)
        if i == self._k - 1:
            return self._seen(), 1.0 if bool(self._ordered().all()) else -1.0, True, False, {}
        self._numbers[[i, i + 1]] = self._numbers[[i + 1, i]]
        self._moves += 1
        return self._seen(), -PRICE, False, self._moves >= 3 * self._k, {}

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None:
            return None
        picture = np.zeros((HEIGHT, BAR * self._k), np.uint8)
        for i, number in enumerate(self._numbers):
            tall = 1 + int((number - self._low) / (self._high - self._low) * (HEIGHT - 1))
            picture[HEIGHT - tall :, BAR * i : BAR * i + BAR - 1] = 255
        return enlarged(picture, SIDE)

    def _ordered(self) -> NDArray[np.bool_]:
        ordered: NDArray[np.bool_] = self._numbers[:-1] <= self._numbers[1:]
        return ordered

    def _seen(self) -> Any:
        if self._view == "reals":
            return self._numbers.copy()
        return int(self._ordered() @ (1 << np.arange(self._k - 1)))


def register() -> None:
    """Makes it known to `gymnasium.make`; importing this module has done so already."""
    if "qladder/Sort-v0" not in gymnasium.registry:
        gymnasium.register("qladder/Sort-v0", entry_point="qladder.envs.sorting:Sort")


register()
