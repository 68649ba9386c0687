"""The consoles' memory as observations: what ale-py's vector environment, which shows screens only, does not give."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from ale_py import Action, ALEInterface, LoggerMode
from numpy.typing import NDArray

from qladder.envs.protocol import Protocol
from qladder.envs.seeding import generator

RAM_SIZE = 128  # bytes


class RamGames:
    """N consoles with one game, behind the part of `AtariVectorEnv`'s interface that `AtariEnv` calls.

    They start and step as ale-py's native environments do, but for the generator that draws the no-ops. Not the fast
    path: a Python loop steps one after the other.

    Observations are `[N, 128]` uint8, or with `rgb` screens `[N, 1, height, width, 3]` of the very same games.
    """

    def __init__(self, rom: Any, protocol: Protocol, num_envs: int, *, rgb: bool = False) -> None:
        self._games = [_Game(rom, protocol) for _ in range(num_envs)]
        self._rgb = rgb
        self._games[0].load(0)  # what the others do when they are reset
        self.single_action_space = SimpleNamespace(n=len(self._games[0].actions))

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts new episodes where `options["reset_mask"]` says so, without it everywhere; `seed` is one for each."""
        mask = np.ones(len(self._games), np.bool_) if options is None else options["reset_mask"]
        for place, i in enumerate(np.flatnonzero(mask)):
            if seed is not None:
                self._games[i].load(int(seed[place]))
            self._games[i].start()
        return self._observations(), self._info()

    def step(self, action: NDArray[np.int64]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One agent step in each; no game is cut, nor started again, here."""
        reward = np.array([game.step(a) for game, a in zip(self._games, action, strict=True)])
        over = np.array([game.ale.game_over() for game in self._games])
        return self._observations(), reward, over, np.zeros_like(over), self._info()

    def _observations(self) -> Any:
        if self._rgb:
            return np.stack([game.ale.getScreenRGB()[None] for game in self._games])
        return np.stack([game.ale.getRAM() for game in self._games])

    def _info(self) -> dict[str, Any]:
        return {"lives": np.array([game.ale.lives() for game in self._games], np.int32)}


class _Game:
    def __init__(self, rom: Any, protocol: Protocol) -> None:
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale, self._rom, self._protocol = ALEInterface(), rom, protocol
        self.ale.setFloat("repeat_action_probability", protocol.sticky)

    def load(self, seed: int) -> None:
        """The console switched on, with the two streams of a seed: the emulator's own and that of the no-ops."""
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self._rom)
        everything = self._protocol.full_action_space
        self.actions = self.ale.getLegalActionSet() if everything else self.ale.getMinimalActionSet()
        self._fire = self._protocol.fire_reset and Action.FIRE in self.actions
        self._rng = generator(seed, "noops")

    def start(self) -> None:
        """A new episode; FIRE, where it is pressed, is the first of the frames that no-ops are drawn for."""
        self.ale.reset_game()
        noops = int(self._rng.integers(self._protocol.noop_max + 1))
        if self._fire:
            self.ale.act(Action.FIRE)
        for _ in range(noops - self._fire):
            self.ale.act(Action.NOOP)
            if self.ale.game_over():
                self.ale.reset_game()

    def step(self, action: int) -> int:
        """The action for `frame_skip` frames, or up to the end of the game; the sum of their rewards."""
        reward = 0
        for _ in range(self._protocol.frame_skip):
            reward += self.ale.act(self.actions[action])
            if self.ale.game_over():
                break
        return reward
