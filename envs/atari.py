"""Atari games as `Env`, on ale-py's native vector environment: the one place that knows lives, caps and resets."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import ale_py
import gymnasium
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces

from qladder.envs.atari_ram import RAM_SIZE, RamGames
from qladder.envs.errors import UserError, nearest
from qladder.envs.journal import check_actions, check_same, fingerprint
from qladder.envs.protocol import Protocol
from qladder.envs.seeding import integer
from qladder.envs.spec import EnvSpec, TimeStep
from qladder.envs.wrapped_games import WrappedGames

gymnasium.register_envs(ale_py)

SCREEN = (210, 160)  # height and width in pixels; the few taller screens are resized
NEVER = 2**30
RESEED_AFTER = 50_000  # agent steps; what a resumed run plays again, up to the end of an episode more


class AtariEnv:
    """N copies of one game, stepped together by ale-py's threads.

    Observations are the last `protocol.stack` frames, oldest first, black before the episode's first frame. A life is
    lost where the number of lives falls, as in DQN Zoo, to 0 too: that is where some games show their last life.

    Args:
        seeds: one per environment, from 0 to 2**31 - 1; results depend on nothing else, not on `num_threads` either.
            At the first end of an episode after every 50,000 of its steps an environment is seeded anew, from its own.
        training: False applies the evaluation's episode cap and ignores lost lives.
        num_threads: 0 is one per environment, at most one per core.
        ram: the consoles' memory `[num_envs, 128]` instead of frames; one game after the other, not by threads.
        rgb: full-colour screens `[num_envs, 1, 210, 160, 3]` instead, for `AtariScreen`.
        wrappers, run_seed: see `WrappedGames`; one game after the other then, too.

    Raises:
        UserError: no such game, a missing ROM, a protocol that ale-py cannot play, or a wrapper that does not fit.
    """

    def __init__(
        self,
        id: str,
        protocol: Protocol,
        *,
        num_envs: int,
        seeds: Sequence[int],
        training: bool,
        num_threads: int = 0,
        ram: bool = False,
        rgb: bool = False,
        wrappers: Sequence[str] = (),
        run_seed: int = 0,
    ) -> None:
        cap = protocol.episode_cap
        if not training and protocol.evaluation.episode_cap is not None:
            cap = protocol.evaluation.episode_cap
        limit = None if cap is None else cap // protocol.frame_skip
        self._vector: Any = (
            _consoles(id, protocol, num_envs, rgb) if ram else _vector(id, protocol, num_envs, num_threads, rgb)
        )
        self._seeds = np.array(seeds, np.int64)
        self._seedings = np.full(num_envs, -1)  # how often each was seeded, its start not counted
        self._actions = [bytearray() for _ in seeds]  # since each was seeded last
        self._trails = [0 for _ in seeds]  # of all that each showed since
        self._obs: Any = np.zeros(0)
        self._num_actions = int(self._vector.single_action_space.n)
        self._limit = NEVER if limit is None else limit
        self._count_lives = training and protocol.life_loss == "discount-0"
        self._steps = np.zeros(num_envs, np.int64)
        self._lives = np.zeros(num_envs, np.int32)
        shape: tuple[int, ...] = (RAM_SIZE,) if ram else (protocol.stack, protocol.screen, protocol.screen)
        if wrappers:
            seen = spaces.Box(0, 255, shape if ram else (1, *shape[1:]), np.uint8)
            stack = 0 if ram else protocol.stack
            self._vector = WrappedGames(id, self._vector, seen, num_envs, stack, wrappers, run_seed)
            shape = self._vector.shape
        self.spec = EnvSpec(
            id=id,
            num_envs=num_envs,
            batched=True,
            obs_shape=(1, *SCREEN, 3) if rgb else shape,
            obs_dtype="uint8",
            num_states=None,
            num_actions=self._num_actions,
            stack=1 if rgb or ram else protocol.stack,
            frames_per_step=protocol.frame_skip,
            max_episode_steps=limit,
        )
        self._stacked = self.spec.stack > 1

    def reset(self) -> Any:
        self._seedings[:] = -1
        self._seed(np.ones(len(self._seeds), np.bool_))
        return self._obs

    def step(self, action: Any) -> TimeStep:
        """One agent step; `obs` and `next_obs` are one array where no episode ended.

        Raises:
            ValueError: an action that the game does not have (ale-py would wait for ever).
        """
        action = np.asarray(action, np.int64)
        if action.min() < 0 or action.max() >= self._num_actions:
            raise ValueError(f"{self.spec.id}: actions {action.tolist()}; allowed are 0 to {self._num_actions - 1}")
        for actions, a in zip(self._actions, action.tolist(), strict=True):
            actions.append(a)
        next_obs, reward, terminated, _, info = self._vector.step(action)
        self._steps += 1
        last = terminated | (self._steps >= self._limit)
        cut = terminated | (info["lives"] < self._lives) if self._count_lives else terminated
        self._obs, self._lives = next_obs, info["lives"]
        for i in range(len(next_obs)):
            self._trails[i] = crc32(reward[i : i + 1], self._seen(i))
        if last.any():
            self._start(last)
        discount = np.where(cut, np.float32(0), np.float32(1))
        return TimeStep(self._obs, reward.astype(np.float32), discount, last, next_obs)

    def state_dict(self) -> dict[str, Any]:
        return {
            "seedings": self._seedings.copy(),
            "actions": np.frombuffer(b"".join(self._actions), np.uint8),
            "lengths": np.array([len(actions) for actions in self._actions]),
            "led_to": fingerprint(self._obs, self._lives, self._steps, self._trails),
        }

    def resume(self, state: dict[str, Any]) -> Any:
        """As many steps are played as since the earliest seed; environments that were seeded later begin later."""
        check_actions(self.spec.id, state["actions"], self._num_actions, state["lengths"])
        lengths, longest = state["lengths"], int(state["lengths"].max())
        past = np.split(state["actions"], lengths.cumsum()[:-1])
        played = np.stack([np.pad(actions, (longest - len(actions), 0)) for actions in past], 1)  # [longest, N]
        for t in range(longest + 1):
            begins = longest - lengths == t
            if t == 0:
                begins[:] = True  # none can stand still
            if begins.any():
                self._seedings[begins] = state["seedings"][begins] - 1
                self._seed(begins)
            if t < longest:
                self.step(played[t])
        found = fingerprint(self._obs, self._lives, self._steps, self._trails)
        check_same(self.spec.id, "its environments", int(lengths.sum()), found, state["led_to"])
        return self._obs

    def _start(self, ended: Any) -> None:
        """New episodes in these environments."""
        long_ago = ended & np.array([len(actions) >= RESEED_AFTER for actions in self._actions])
        if long_ago.any():
            self._seed(long_ago)
        rest = ended & ~long_ago
        if rest.any():  # also reports the observations and lives of those that play on
            self._obs, info = self._vector.reset(options={"reset_mask": rest})
            self._lives = info["lives"]
            self._steps[rest] = 0
            for i in np.flatnonzero(rest).tolist():
                self._trails[i] = self._seen(i)

    def _seed(self, which: Any) -> None:
        """New episodes in these environments, from the next of their seeds."""
        self._seedings[which] += 1
        seeds = [
            integer(int(self._seeds[i]), "seeded again", int(self._seedings[i]))
            if self._seedings[i]
            else self._seeds[i]
            for i in np.flatnonzero(which)
        ]
        self._obs, info = self._vector.reset(seed=np.array(seeds, np.int64), options={"reset_mask": which})
        self._lives = info["lives"]
        self._steps[which] = 0
        for i in np.flatnonzero(which).tolist():
            self._actions[i], self._trails[i] = bytearray(), 0
            self._trails[i] = self._seen(i)

    def _seen(self, i: int) -> int:
        """What a game has shown since it was seeded, its newest frame too."""
        frames = self._obs[i]
        return crc32(frames[-1] if self._stacked else frames, self._trails[i])

    def place(self) -> str:
        """Where the games are, in words."""
        steps = ", ".join(str(len(actions)) for actions in self._actions)
        return f" (steps since they were seeded: {steps}; seeded again: {self._seedings.tolist()})"

    def close(self) -> None:
        """Ends the threads."""
        self._vector = None


class AtariScreen:
    """The game that `AtariEnv(id, protocol, num_envs=1, seeds=[seed], training=training, ram=ram)` plays, as one
    unbatched `Env` whose observations are its screens `[210, 160, 3]` (with `ram` not resized where the game's are
    taller); fed the same actions, the two stay in step."""

    def __init__(self, id: str, protocol: Protocol, seed: int, *, training: bool = False, ram: bool = False) -> None:
        self._env = AtariEnv(id, protocol, num_envs=1, seeds=[seed], training=training, ram=ram, rgb=True)
        self.spec = replace(self._env.spec, batched=False, obs_shape=self._env.spec.obs_shape[1:])

    def reset(self) -> Any:
        return self._env.reset()[0, 0]

    def step(self, action: Any) -> TimeStep:
        obs, reward, discount, last, next_obs = self._env.step([action])
        return TimeStep(obs[0, 0], float(reward[0]), float(discount[0]), bool(last[0]), next_obs[0, 0])

    def close(self) -> None:
        self._env.close()


def rom_md5(id: str) -> str:
    """The MD5 of the game's ROM, for the record of a run.

    Raises:
        UserError: no such game, or a missing ROM.
    """
    with _rom_errors(id):
        return hashlib.md5(_rom(id).read_bytes(), usedforsecurity=False).hexdigest()


def action_names(id: str, protocol: Protocol) -> list[str]:
    """What the game's actions are called, by their numbers: NOOP, UPRIGHTFIRE, ...

    Raises:
        UserError: no such game, or a missing ROM.
    """
    with _rom_errors(id):
        console = ale_py.ALEInterface()
        console.loadROM(str(_rom(id)))
    actions = console.getLegalActionSet() if protocol.full_action_space else console.getMinimalActionSet()
    return [action.name for action in actions]


def _game(id: str) -> str:
    games = [name for name in gymnasium.registry if name.startswith("ALE/")]
    if id not in games:
        raise UserError(f"environment '{id}': no such Atari game{nearest(id, games)}")
    return str(gymnasium.registry[id].kwargs["game"])


def _rom(id: str) -> Path:
    path = roms.get_rom_path(_game(id))
    assert path is not None  # the registry holds no game that ale-py does not know
    return path


def _consoles(id: str, protocol: Protocol, num_envs: int, rgb: bool) -> RamGames:
    with _rom_errors(id):
        return RamGames(_rom(id), protocol, num_envs, rgb=rgb)


def _vector(id: str, protocol: Protocol, num_envs: int, num_threads: int, rgb: bool) -> Any:
    """ale-py's environments with every option set, and its own ends of episodes (cap, lives) switched off.

    Its own cap would pool the last frame, from which agents bootstrap, with one of the step before, and its own
    SAME_STEP autoreset leaves memory uninitialised; so `AtariEnv` counts steps and resets what has ended.
    """
    if protocol.max_pool and protocol.frame_skip == 1:
        raise UserError(f"protocol '{protocol.name}': max_pool = true needs frame_skip of at least 2")
    height, width = SCREEN if rgb else (protocol.screen, protocol.screen)
    with _rom_errors(id):
        return AtariVectorEnv(
            _game(id),
            num_envs,
            batch_size=num_envs,
            num_threads=num_threads,
            thread_affinity_offset=-1,
            max_num_frames_per_episode=NEVER,
            repeat_action_probability=protocol.sticky,
            full_action_space=protocol.full_action_space,
            continuous=False,
            autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP,
            img_height=height,
            img_width=width,
            grayscale=not rgb,
            stack_num=1 if rgb else protocol.stack,
            frameskip=protocol.frame_skip,
            maxpool=protocol.max_pool,
            noop_max=protocol.noop_max + 1,  # ale-py draws from 0 to noop_max - 1
            episodic_life=False,
            life_loss_info=False,
            reward_clipping=False,
            use_fire_reset=protocol.fire_reset,
        )


@contextlib.contextmanager
def _rom_errors(id: str) -> Iterator[None]:
    """Missing or altered ROMs as UserError; what ale-py prints about a ROM folder goes to standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except OSError as error:
        raise UserError(f"environment '{id}': {' '.join(str(error).split())}") from error
