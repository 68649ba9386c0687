"""Gymnasium environments as `Env`: the one place that knows terminated, truncated and the reset of such a one."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import sys
import warnings
from array import array
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import gymnasium
import numpy as np
from gymnasium import spaces

from qladder.envs.errors import EnvironmentFaultError, UserError, first_line, nearest
from qladder.envs.journal import check_actions, check_same, fingerprint
from qladder.envs.protocol import Protocol
from qladder.envs.reading import BROKEN, UnreadableError, flag, reader, real, sizes, told
from qladder.envs.seeding import integer
from qladder.envs.spec import EnvSpec, TimeStep

LIMIT = "max_episode_steps"


def make_gym(
    id: str,
    protocol: Protocol,
    *,
    training: bool = True,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str] = (),
    run_seed: int = 0,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """The environment itself, with the protocol's time limit and the user's wrappers (see `wrapped`).

    `max_episode_steps` among `kwargs` is a limit of agent steps in place of its own.

    Raises:
        UserError: no such id, an argument or a wrapper that it does not take, or a package that is missing.
    """
    options = dict(kwargs or {})
    if render_mode is not None:
        options["render_mode"] = render_mode
    module, _, name = id.rpartition(":")
    if module:
        _import_of(id, module)
    limited = LIMIT in options
    own = _own_limit(id, options.pop(LIMIT, None))
    try:
        spec = gymnasium.spec(name)
        if _is_old_game(spec):  # there where ale-py has been imported: it would be played by no protocol
            raise UserError(f"environment '{id}': an Atari game by an older name{_nearest_id(id)}")
        limit = _limit(own if limited else spec.max_episode_steps, protocol, training)
        env = gymnasium.make(name, max_episode_steps=limit, disable_env_checker=True, **options)
    except UserError:
        raise
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{id}: {error}; extras of qladder: box2d, render") from error
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        said = first_line(error).partition(" Did you mean")[0].rstrip(".")  # ours has the version
        raise UserError(f"environment '{id}': {said}{_nearest_id(id)}") from error
    except TypeError as error:
        raise UserError(f"environment '{id}' with {options}: {first_line(error)}") from error
    except BROKEN as error:  # somebody else's module or constructor
        raise UserError(f"environment '{id}' with {options}: {told(error)}") from error
    return wrapped(env, wrappers, run_seed)


def wrapped(env: gymnasium.Env[Any, Any], wrappers: Sequence[str], run_seed: int) -> gymnasium.Env[Any, Any]:
    """In wrappers by name, `module:function`, the first innermost.

    One that has a parameter `run_seed` is given it: the same for all environments of a run, training and evaluations.

    Raises:
        UserError: there is none of that name, or it does not take the environment, or returns something else.
    """
    for wrapper in wrappers:
        wrap = load_attribute(wrapper, "wrapper")
        try:
            asks = "run_seed" in inspect.signature(wrap).parameters
            env = wrap(env, run_seed=run_seed) if asks else wrap(env)
        except BROKEN as error:
            raise UserError(f"wrapper '{wrapper}': {told(error)}") from error
        if not isinstance(env, gymnasium.Env):
            raise UserError(f"wrapper '{wrapper}' returned {type(env).__name__}, not an environment")
    return env


def load_attribute(name: str, what: str) -> Any:
    """The object that `module:attribute` names; UserError where there is none."""
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise UserError(f"{what} '{name}': write module:name")
    try:
        return getattr(_import(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"{what} '{name}': {error}{_where_modules_are(module, error)}") from error
    except AttributeError as error:
        known = [n for n in vars(_import(module)) if not n.startswith("_")]
        raise UserError(f"{what} '{name}': {error}{nearest(attribute, known)}") from error
    except BROKEN as error:  # somebody else's module
        raise UserError(f"{what} '{name}': {told(error)}") from error


def _import_of(id: str, module: str) -> None:
    try:
        _import(module)
    except ModuleNotFoundError as error:
        raise UserError(f"environment '{id}': {error}{_where_modules_are(module, error)}") from error
    except BROKEN as error:  # somebody else's module
        raise UserError(f"environment '{id}': {told(error)}") from error


def _where_modules_are(module: str, error: ModuleNotFoundError) -> str:
    missing = error.name == module.partition(".")[0]
    return "; install it, or name the folder that it is in: PYTHONPATH=. qladder ..." if missing else ""


def _import(module: str) -> Any:
    """A module from outside; none of Python's own, of which some act when they are imported or called."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"'{module}' is a module of Python's own")
    return importlib.import_module(module)


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
        try:
            self.spec = _spec(id, env)
            self._read = reader(env.observation_space)
            self._first_action = int(env.action_space.start) if isinstance(env.action_space, spaces.Discrete) else 0
        except UserError:
            raise
        except BROKEN as error:
            raise UserError(f"environment '{id}': its spaces: {told(error)}") from error
        self._numbered = self.spec.num_states is not None
        self._env_step = env.step

    def reset(self) -> Any:
        self._episode += 1
        self._episode_seed = integer(self._seed, self._stream, self._index, self._episode)
        try:
            obs, _ = self._env.reset(seed=self._episode_seed)
        except BROKEN as error:
            raise self._fault(f"reset raised {told(error)}") from error
        self._obs = self._observe(obs)
        self._actions, self._trail = array("q"), self._seen(self._obs)
        return self._obs

    def step(self, action: Any) -> TimeStep:
        self._steps += 1
        action = int(action)
        try:
            obs, reward, terminated, truncated, _ = self._env_step(action + self._first_action)
        except BROKEN as error:
            raise self._fault(f"step raised {told(error)}") from error
        next_obs = self._observe(obs)
        try:
            reward = real(reward)
            if type(terminated) is not bool or type(truncated) is not bool:
                terminated, truncated = flag("terminated", terminated), flag("truncated", truncated)
        except UnreadableError as error:
            raise self._fault(str(error)) from error
        if terminated or truncated:
            return TimeStep(self.reset(), reward, 0.0 if terminated else 1.0, True, next_obs)
        self._actions.append(action)
        self._trail = hash((self._trail, self._seen(next_obs), reward, reward < -1.5))  # Python hashes -1 as -2
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
        check_actions(self.spec.id, state["actions"], self.spec.num_actions or 2**62)
        self._episode = state["episode"] - 1
        self.reset()
        for action in state["actions"].tolist():
            self.step(action)
        found = fingerprint(self._obs, self._trail) if self._episode == state["episode"] else "another episode"
        self._steps = state["steps"]
        check_same(self.spec.id, f"episode {state['episode']}", len(state["actions"]), found, state["led_to"])
        return self._obs

    def close(self) -> None:
        """Warns where the environment cannot: whoever closes it has what it wanted."""
        try:
            self._env.close()
        except BROKEN as error:
            warnings.warn(f"{self.spec.id}: close raised {told(error)}", RuntimeWarning, stacklevel=2)

    def _seen(self, obs: Any) -> int:
        return obs if self._numbered else crc32(obs)

    def _observe(self, obs: Any) -> Any:
        try:
            return self._read(obs)
        except UnreadableError as error:
            raise self._fault(str(error)) from error

    def place(self) -> str:
        """Where it is, in words."""
        return (
            f" (environment {self._index}, its step {self._steps}, episode {self._episode}, "
            f"episode seed {self._episode_seed}, run seed {self._seed})"
        )

    def _fault(self, what: str) -> EnvironmentFaultError:
        return EnvironmentFaultError(f"{self.spec.id}: {what}{self.place()}")


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


def _own_limit(id: str, steps: Any) -> int | None:
    """Of agent steps, from the user's settings."""
    if steps is None or steps == "none":
        return None
    if type(steps) not in (int, float) or steps != int(steps) or not 0 < steps < 2**31:
        raise UserError(f"environment '{id}': {LIMIT} = {steps!r} must be a number of steps, or none")
    return int(steps)


def _limit(own: int | None, protocol: Protocol, training: bool) -> int | None:
    """The episode's limit in agent steps; the protocol's caps count frames, and here a step is one frame."""
    cap = None if training else protocol.evaluation.episode_cap
    if cap is None:
        return own if own is not None else protocol.episode_cap
    return cap if own is None else min(own, cap)


def _spec(id: str, env: gymnasium.Env[Any, Any]) -> EnvSpec:
    space, actions = env.observation_space, env.action_space
    digits = sizes(space)
    if digits is None and not isinstance(space, spaces.Box):
        raise UserError(
            f"environment '{id}' observes {space}; qladder plays Box, Discrete, MultiDiscrete and Tuples of Discrete "
            "(a wrapper can flatten others: --env.wrappers module:function)"
        )
    if isinstance(space, spaces.Box) and (math.prod(space.shape) == 0 or np.dtype(space.dtype).kind not in "biuf"):
        raise UserError(f"environment '{id}' observes {space}: qladder plays arrays of real numbers that are not empty")
    flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    return EnvSpec(
        id=id,
        num_envs=1,
        batched=False,
        obs_shape=tuple(space.shape or ()) if digits is None else (),
        obs_dtype=str(space.dtype) if digits is None else "int64",
        num_states=None if digits is None else math.prod(digits),
        num_actions=int(actions.n) if isinstance(actions, spaces.Discrete) else None,
        low=tuple(map(float, space.low)) if flat else None,  # type: ignore[attr-defined]
        high=tuple(map(float, space.high)) if flat else None,  # type: ignore[attr-defined]
        max_episode_steps=env.spec.max_episode_steps if env.spec is not None else None,
    )


def _nearest_id(id: str) -> str:
    import ale_py  # noqa: F401  (registers its games)

    game = "ALE/" + re.sub(r"(-ram)?(NoFrameskip|Deterministic)?-v\d+$", "-v5", id)
    if game in gymnasium.registry:
        return f"; did you mean '{game}'?"
    known = [name for name, spec in gymnasium.registry.items() if not _is_old_game(spec)]
    return nearest(id.partition(":")[2] or id, known)


def _is_old_game(spec: Any) -> bool:
    return str(spec.entry_point).startswith("ale_py") and not spec.id.startswith("ALE/")
