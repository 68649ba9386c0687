"""Gymnasium environments as `Env`: the one place that knows terminated, truncated and the reset of such a one."""

from __future__ import annotations

import importlib
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import gymnasium
import numpy as np
from gymnasium import spaces

from qladder.envs.errors import EnvironmentFaultError, UserError, nearest
from qladder.envs.journal import check_same, fingerprint
from qladder.envs.protocol import Protocol
from qladder.envs.seeding import integer
from qladder.envs.spec import EnvSpec, TimeStep


def make_gym(
    id: str,
    protocol: Protocol,
    *,
    training: bool = True,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str] = (),
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """The environment itself, with the protocol's time limit and the user's wrappers (`module:function`).

    Wrappers are put on in their order, the first innermost.

    Raises:
        UserError: no such id, an argument or a wrapper that it does not take, or a package that is missing.
    """
    options = dict(kwargs or {})
    if render_mode is not None:
        options["render_mode"] = render_mode
    module, _, name = id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        limit = _limit(gymnasium.spec(name).max_episode_steps, protocol, training)
        env = gymnasium.make(name, max_episode_steps=limit, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{id}: {error}; extras of qladder: box2d, render") from error
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UserError(f"environment '{id}': {_first_line(error)}{_nearest_id(id)}") from error
    except TypeError as error:
        raise UserError(f"environment '{id}' with {options}: {_first_line(error)}") from error
    except Exception as error:  # somebody else's module or constructor
        raise UserError(f"environment '{id}' with {options}: {type(error).__name__}: {_first_line(error)}") from error
    for wrapper in wrappers:
        env = _wrapped(wrapper, env)
    return env


def _wrapped(wrapper: str, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    wrap = load_attribute(wrapper, "wrapper")
    try:
        wrapped = wrap(env)
    except Exception as error:
        raise UserError(f"wrapper '{wrapper}': {type(error).__name__}: {_first_line(error)}") from error
    if not isinstance(wrapped, gymnasium.Env):
        raise UserError(f"wrapper '{wrapper}' returned {type(wrapped).__name__}, not an environment")
    return wrapped


def load_attribute(name: str, what: str) -> Any:
    """The object that `module:attribute` names; UserError where there is none."""
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise UserError(f"{what} '{name}': write module:name")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"{what} '{name}': {error}") from error
    except AttributeError as error:
        known = [n for n in vars(importlib.import_module(module)) if not n.startswith("_")]
        raise UserError(f"{what} '{name}': {error}{nearest(attribute, known)}") from error
    except Exception as error:  # somebody else's module
        raise UserError(f"{what} '{name}': {type(error).__name__}: {_first_line(error)}") from error


class GymEnv:
    """One Gymnasium environment with plain values; every episode has a seed of its own.

    Numbered observations (Discrete, MultiDiscrete, Tuple of Discrete) become one integer in mixed radix. Arrays are
    copied, so that an environment may write into its own buffer.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], id: str, seed: int, stream: str, index: int = 0) -> None:
        self._env, self._seed, self._stream, self._index = env, seed, stream, index
        self._episode, self._steps, self._episode_seed = -1, 0, 0
        self._actions: array[int] = array("q")  # of this episode
        self._trail = 0  # of all that this episode showed
        self._obs: Any = 0
        self._number = _numbering(env.observation_space)
        self._first_action = int(env.action_space.start) if isinstance(env.action_space, spaces.Discrete) else 0
        self.spec = _spec(id, env)
        self._shape, self._dtype = self.spec.obs_shape, np.dtype(self.spec.obs_dtype)
        self._float = self._dtype.kind == "f"
        self._num_states = self.spec.num_states or 0
        self._env_step = env.step

    def reset(self) -> Any:
        self._episode += 1
        self._episode_seed = integer(self._seed, self._stream, self._index, self._episode)
        self._actions, self._trail = array("q"), 0
        try:
            obs, _ = self._env.reset(seed=self._episode_seed)
        except Exception as error:
            raise self._fault(f"reset raised {type(error).__name__}: {_first_line(error)}") from error
        self._obs = self._observe(obs)
        return self._obs

    def step(self, action: Any) -> TimeStep:
        self._steps += 1
        action = int(action)
        try:
            obs, reward, terminated, truncated, _ = self._env_step(action + self._first_action)
            reward = float(reward)
        except Exception as error:
            raise self._fault(f"step raised {type(error).__name__}: {_first_line(error)}") from error
        next_obs = self._observe(obs)
        if not math.isfinite(reward):
            raise self._fault(f"the reward is {reward}")
        if terminated or truncated:
            return TimeStep(self.reset(), reward, 0.0 if terminated else 1.0, True, next_obs)
        self._actions.append(action)
        seen = next_obs if self._num_states else crc32(next_obs)
        self._trail = hash((self._trail, seen, reward))
        self._obs = next_obs
        return TimeStep(next_obs, reward, 1.0, False, next_obs)

    def state_dict(self) -> dict[str, Any]:
        return {
            "episode": self._episode,
            "steps": self._steps,
            "actions": np.array(self._actions, np.int64),
            "led_to": fingerprint(self._obs, self._trail),
        }

    def resume(self, state: dict[str, Any]) -> Any:
        self._episode = state["episode"] - 1
        self.reset()
        for action in state["actions"].tolist():
            self.step(action)
        found = fingerprint(self._obs, self._trail) if self._episode == state["episode"] else "another episode"
        self._steps = state["steps"]
        check_same(self.spec.id, f"episode {state['episode']}", len(state["actions"]), found, state["led_to"])
        return self._obs

    def close(self) -> None:
        self._env.close()

    def _observe(self, obs: Any) -> Any:
        try:
            if self._number is not None:
                return self._in_range(self._number(obs))
            array = np.array(obs, self._dtype, order="C")
        except (TypeError, ValueError, OverflowError) as error:
            raise self._fault(f"an observation that is none: {type(error).__name__}: {_first_line(error)}") from error
        if array.shape != self._shape:
            raise self._fault(f"an observation of shape {array.shape} instead of {self._shape}")
        if self._float and not math.isfinite(np.vdot(array, array)) and not np.isfinite(array).all():
            raise self._fault("the observation is not finite")
        return array

    def _in_range(self, state: int) -> int:
        if not 0 <= state < self._num_states:
            raise self._fault(f"state {state} of {self._num_states}")
        return state

    def _fault(self, what: str) -> EnvironmentFaultError:
        return EnvironmentFaultError(
            f"{self.spec.id}: {what} (environment {self._index}, its step {self._steps}, episode {self._episode}, "
            f"episode seed {self._episode_seed}, run seed {self._seed})"
        )


class BatchEnv:
    """N environments of one kind as arrays `[N, ...]`, stepped in turn."""

    def __init__(self, envs: Sequence[GymEnv]) -> None:
        self._envs = envs
        one = envs[0].spec
        self.spec = EnvSpec(**{**vars(one), "num_envs": len(envs), "batched": True})

    def reset(self) -> Any:
        return np.stack([np.asarray(env.reset()) for env in self._envs])

    def step(self, action: Any) -> TimeStep:
        obs, reward, discount, last, next_obs = zip(
            *(env.step(a) for env, a in zip(self._envs, action, strict=True)), strict=True
        )
        return TimeStep(np.stack(obs), np.array(reward), np.array(discount), np.array(last), np.stack(next_obs))

    def state_dict(self) -> dict[str, Any]:
        return {"envs": [env.state_dict() for env in self._envs]}

    def resume(self, state: dict[str, Any]) -> Any:
        return np.stack([np.asarray(env.resume(s)) for env, s in zip(self._envs, state["envs"], strict=True)])

    def close(self) -> None:
        for env in self._envs:
            env.close()


def _limit(own: int | None, protocol: Protocol, training: bool) -> int | None:
    """The episode's limit in agent steps; the protocol's caps count frames, and here a step is one frame."""
    cap = None if training else protocol.evaluation.episode_cap
    if cap is None:
        return own if own is not None else protocol.episode_cap
    return cap if own is None else min(own, cap)


def _numbering(space: spaces.Space[Any]) -> Callable[[Any], int] | None:
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return int if first == 0 else lambda obs: int(obs) - first
    sizes = _sizes(space)
    if sizes is None:
        return None
    starts = [int(s.start) for s in space] if isinstance(space, spaces.Tuple) else np.ravel(space.start).tolist()  # type: ignore[attr-defined]

    def number(obs: Any) -> int:
        state = 0
        for value, start, size in zip(
            np.ravel(obs) if isinstance(obs, np.ndarray) else obs, starts, sizes, strict=True
        ):
            state = state * size + int(value) - start
        return state

    return number


def _sizes(space: spaces.Space[Any]) -> list[int] | None:
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in np.ravel(space.nvec)]
    if isinstance(space, spaces.Tuple) and all(isinstance(s, spaces.Discrete) for s in space):
        return [int(s.n) for s in space]
    return None


def _spec(id: str, env: gymnasium.Env[Any, Any]) -> EnvSpec:
    space, actions = env.observation_space, env.action_space
    sizes = _sizes(space)
    if sizes is None and not isinstance(space, spaces.Box):
        raise UserError(
            f"environment '{id}' observes {space}; qladder plays Box, Discrete, MultiDiscrete and Tuples of Discrete "
            "(a wrapper can flatten others: --env.wrappers module:function)"
        )
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    return EnvSpec(
        id=id,
        num_envs=1,
        batched=False,
        obs_shape=tuple(space.shape or ()) if sizes is None else (),
        obs_dtype=str(space.dtype) if sizes is None else "int64",
        num_states=None if sizes is None else math.prod(sizes),
        num_actions=int(actions.n) if isinstance(actions, spaces.Discrete) else None,
        low=tuple(map(float, space.low)) if flat else None,  # type: ignore[attr-defined]
        high=tuple(map(float, space.high)) if flat else None,  # type: ignore[attr-defined]
        max_episode_steps=env.spec.max_episode_steps if env.spec is not None else None,
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _nearest_id(id: str) -> str:
    return nearest(id.partition(":")[2] or id, gymnasium.registry)
