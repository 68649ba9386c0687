"""Atari games behind a user's Gymnasium wrappers, one game after the other: not the fast path, but any picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from qladder.envs.errors import EnvironmentFaultError, UserError
from qladder.envs.gym import wrapped
from qladder.envs.reading import BROKEN, UnreadableError, flag, reader, real, told

Env = gymnasium.Env[Any, Any]


class Lane(Env):
    """One of the games as wrappers see it: its newest frame, or its memory; a step tells what has just been played."""

    def __init__(self, space: spaces.Box, num_actions: int) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(num_actions)
        self._shown: NDArray[np.uint8] = np.zeros(space.shape, np.uint8)
        self._played: tuple[int, float, bool] | None = None

    def show(self, shown: NDArray[np.uint8], played: tuple[int, float, bool] | None = None) -> None:
        """What is told next: an observation, and after a step its action, its reward and whether it was the last."""
        self._shown, self._played = shown.copy(), played

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._played is None or int(action) != self._played[0]:
            raise UserError("a wrapper of an Atari game may change what is seen and the reward, not what is played")
        (_, reward, over), self._played = self._played, None
        return self._shown, reward, over, False, {}


class WrappedGames:
    """N games behind the part of `AtariVectorEnv`'s interface that `AtariEnv` calls, each in wrappers of its own.

    A wrapper sees one frame `[1, H, W]` uint8 at a time, or with `stack` 0 the memory `[128]`; frames are stacked
    behind it, black before an episode's first. What it draws from the environment's generator descends from the game's
    seed. It may change observations and rewards, not the actions or where an episode ends.

    Raises:
        UserError: no such wrapper, or one that turns frames into something else than frames of uint8; in `step`, one
            that plays by itself or ends an episode.
        EnvironmentFaultError: in `reset` and `step`, a wrapper that raises, or shows or rewards what cannot be learnt
            from.
    """

    def __init__(
        self,
        id: str,
        games: Any,
        space: spaces.Box,
        num_envs: int,
        stack: int,
        wrappers: Sequence[str],
        run_seed: int,
    ) -> None:
        self._id = id
        self.single_action_space = games.single_action_space
        self._games, self._stack = games, stack
        self._lanes = [Lane(space, int(games.single_action_space.n)) for _ in range(num_envs)]
        self._envs: list[Env] = [wrapped(lane, wrappers, run_seed) for lane in self._lanes]
        found = self._envs[0].observation_space
        dimensions = len(space.shape)
        if not isinstance(found, spaces.Box) or found.dtype != np.uint8 or len(found.shape) != dimensions:
            raise UserError(f"wrappers {list(wrappers)}: they turn {space} into {found}; Atari needs one like it")
        if stack and found.shape[0] != 1:
            raise UserError(
                f"wrappers {list(wrappers)}: they show {found.shape[0]} frames at a time; Atari stacks them"
            )
        self._read = reader(found)
        self.shape: tuple[int, ...] = (stack, *found.shape[1:]) if stack else found.shape
        self._obs: NDArray[np.uint8] = np.zeros((num_envs, *self.shape), np.uint8)

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As of the games; observations of those that play on stay as they were."""
        obs, info = self._games.reset(seed=seed, options=options)
        mask = np.ones(len(self._envs), np.bool_) if options is None else options["reset_mask"]
        self._obs = self._obs.copy()
        for place, i in enumerate(np.flatnonzero(mask).tolist()):
            self._lanes[i].show(self._newest(obs[i]))
            with self._faults(i):
                first, _ = self._envs[i].reset(seed=None if seed is None else int(seed[place]))
                first = self._read(first)
            self._obs[i] = 0
            self._obs[i, -len(first) :] = first
        return self._obs, info

    def step(self, action: NDArray[np.int64]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, rewards, over, cut, info = self._games.step(action)
        seen: list[NDArray[np.uint8]] = []
        given: list[float] = []
        for i, env in enumerate(self._envs):
            self._lanes[i].show(self._newest(obs[i]), (int(action[i]), float(rewards[i]), bool(over[i])))
            with self._faults(i):
                newest, reward, terminated, truncated, _ = env.step(int(action[i]))
                if flag("terminated", terminated) != over[i] or flag("truncated", truncated):
                    raise UserError("a wrapper of an Atari game may not end an episode, or keep it from ending")
                seen.append(self._read(newest))
                given.append(real(reward))
        latest = np.stack(seen)
        self._obs = np.concatenate([self._obs[:, 1:], latest], axis=1) if self._stack else latest
        return self._obs, np.array(given), over, cut, info

    @contextmanager
    def _faults(self, i: int) -> Iterator[None]:
        """What comes from a wrapper, as errors that name the game."""
        try:
            yield
        except UserError:
            raise
        except BROKEN as error:
            what = str(error) if isinstance(error, UnreadableError) else f"a wrapper raised {told(error)}"
            raise EnvironmentFaultError(f"{self._id}, game {i} in wrappers: {what}") from error

    def _newest(self, obs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return obs[-1:] if self._stack else obs
