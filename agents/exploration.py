"""Epsilon-greedy exploration: of one environment, for tables and linear agents, and of N, for deep ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from qladder.agents.schedules import Clocks, Schedule
from qladder.envs.seeding import generator


class EpsilonGreedy:
    """A uniformly random action with probability epsilon, else the best one; ties go to the lowest.

    It counts the clocks that its epsilon may follow; a step of the environment is one frame here.
    """

    def __init__(self, epsilon: Schedule, num_actions: int, seed: int) -> None:
        self._schedule, self._num_actions = epsilon, num_actions
        self._constant = epsilon.end if epsilon.over == epsilon.begin == 0 else None
        self._rng = generator(seed, "explore")
        self._random = self._rng.random
        self.agent_steps = self.updates = 0

    def act(self, values: list[float], explore: bool) -> int:
        """An action for action values `[A]`; the greedy one, drawing nothing, unless `explore`."""
        if explore:
            epsilon = self._schedule(self.clocks) if self._constant is None else self._constant
            draw = self._random()
            if draw < epsilon:
                return int(draw / epsilon * self._num_actions)
        return values.index(max(values))

    def expected(self, values: list[float]) -> float:
        """The mean of action values `[A]` over what `act` may choose."""
        epsilon = self._schedule(self.clocks)
        return (1 - epsilon) * max(values) + epsilon * sum(values) / len(values)

    @property
    def clocks(self) -> Clocks:
        """Where the run is."""
        return Clocks(self.agent_steps, self.agent_steps, self.updates)

    def state_dict(self) -> dict[str, Any]:
        """The generator and the clocks."""
        return {"rng": self._rng.bit_generator.state, "agent_steps": self.agent_steps, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self._rng.bit_generator.state = state["rng"]
        self.agent_steps, self.updates = state["agent_steps"], state["updates"]


class NextAction:
    """The action that an on-policy target was computed with, kept until it is taken."""

    def __init__(self) -> None:
        self.state: int | None = None

    def keep(self, action: int) -> int:
        """The action itself."""
        self.state = action
        return action

    def take(self, first: bool) -> int | None:
        """What was kept, only once; nothing where an episode starts, since it was meant for another state."""
        action, self.state = self.state, None
        return None if first else action


class Exploration:
    """Which environments act at random, drawn for each of them alone.

    With a `power`, a random action lasts a number of steps that is zeta-distributed with this exponent (Dabney et al.
    2021), at most to the end of its episode.
    """

    def __init__(self, num_envs: int, num_actions: int, power: float | None, rng: np.random.Generator) -> None:
        self._num_actions, self._power, self._rng = num_actions, power, rng
        self._left = np.zeros(num_envs, np.int64)  # steps that the random action goes on
        self._action = np.zeros(num_envs, np.int64)

    def __call__(self, epsilon: float, first: Any) -> tuple[Any, Any]:
        """Whether to act at random `[N]`, and the random actions `[N]`; `first [N]` marks episode starts."""
        starts = self._rng.random(len(first)) < epsilon
        action = self._rng.integers(self._num_actions, size=len(first))
        if self._power is None:
            return starts, action
        going_on = (self._left > 0) & ~first
        starts &= ~going_on
        self._action = np.where(going_on, self._action, action)
        length = self._rng.zipf(self._power, size=len(first))
        self._left = np.where(going_on, self._left - 1, np.where(starts, length - 1, 0))
        return starts | going_on, self._action

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self._rng.bit_generator.state, "left": self._left, "action": self._action}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
        self._left, self._action = state["left"], state["action"]
