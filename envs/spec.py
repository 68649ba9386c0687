"""What an environment is to an agent: its spec, the result of one action, and the two calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class TimeStep(NamedTuple):
    """The result of one action in N environments; an environment whose episode ended is already reset.

    Each field is an array with leading axis N, or, where `EnvSpec.batched` is False, the plain value of the only one.
    """

    obs: Any  # [N, ...] act on this next: already the new episode's first observation where one ended
    reward: Any  # [N] float, as the environment gave it: never clipped
    discount: Any  # [N] float, 0 where the episode terminated (or a life was lost, if the protocol says so), else 1
    last: Any  # [N] bool, the sequence stops here: terminated or truncated
    next_obs: Any  # [N, ...] what the action led to; never the reset frame


@dataclass(frozen=True)
class EnvSpec:
    """What an agent may know of its environments before it acts."""

    id: str
    num_envs: int
    batched: bool  # False: one environment, and all fields of a TimeStep are plain values
    obs_shape: tuple[int, ...]  # of one environment; () where observations are discrete states
    obs_dtype: str  # numpy's name
    num_states: int | None  # observations are integers below this; None where they are arrays
    num_actions: int | None  # actions are integers below this; None where the action space is not a finite set
    low: tuple[float, ...] | None = None  # bounds of a one-dimensional observation, infinite where unbounded
    high: tuple[float, ...] | None = None
    stack: int = 1  # how many frames, oldest first, the first axis of an observation holds; 1: not a stack
    frames_per_step: int = 1  # emulator frames in one agent step
    max_episode_steps: int | None = None  # agent steps after which an episode is truncated


class Env(Protocol):
    """N environments of one kind, seeded when they were made."""

    spec: EnvSpec

    def reset(self) -> Any:
        """The first observations `[N, ...]`; called once."""

    def step(self, action: Any) -> TimeStep:
        """One agent step in each environment; `action` is an integer array `[N]`, or an int where not batched.

        Raises:
            EnvironmentFaultError: the environment raised, or returned a reward or observation that is not finite.
        """

    def close(self) -> None: ...


class ResumableEnv(Env, Protocol):
    """Environments that a run can go on with in the middle of an episode."""

    def state_dict(self) -> dict[str, Any]:
        """Enough for `resume`, in arrays and numbers: which seed came last, the actions since, and what they led to."""

    def resume(self, state: dict[str, Any]) -> Any:
        """The observations `[N, ...]` of that moment, reached by taking the same actions again; in place of `reset`.

        Raises:
            EnvironmentFaultError: they led elsewhere: the environment is not deterministic.
        """
