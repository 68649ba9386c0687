"""Who calls whom: the one training loop of all agents, and the exact ratio of updates to agent steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from qladder.agents.agent import Agent, Metrics
from qladder.envs.protocol import Evaluation
from qladder.envs.spec import Env, TimeStep
from qladder.replay.types import Step


class Moment(NamedTuple):
    """After one agent step in each environment, and the updates that were due."""

    agent_steps: int
    updates: int
    time_step: TimeStep
    metrics: Metrics | None  # of the last update, where there was one


class Begin(NamedTuple):
    """What an agent sees when it is asked for its first action."""

    obs: Any  # [N, ...]
    first: Any  # [N] bool, an episode starts


def fresh(env: Env) -> Begin:
    """New episodes in all environments."""
    return Begin(env.reset(), np.ones(env.spec.num_envs, np.bool_) if env.spec.batched else True)


class Ratio:
    """`updates` updates for every `every` agent steps after the first `start`, however many environments there are."""

    def __init__(self, start: int, every: int, updates: int, *, before: int = 0, done: int = 0) -> None:
        """`before` updates belong to the time before `start`; `done` were done so far, those included."""
        self._start, self._every, self._updates, self._before, self.done = start, every, updates, before, done

    def due(self, agent_steps: int) -> int:
        """How many updates are owed at this many agent steps; they count as done."""
        owed = self._before + max(0, (agent_steps - self._start) // self._every) * self._updates - self.done
        self.done += owed
        return owed


def interact(
    env: Env, agent: Agent, ratio: Ratio, clip_rewards: bool, agent_steps: int = 0, begin: Begin | None = None
) -> Iterator[Moment]:
    """Acts, remembers and learns for ever; whoever consumes this decides when to stop.

    It goes on from `begin`, without it from new episodes.
    """
    num_envs = env.spec.num_envs
    obs, first = fresh(env) if begin is None else begin
    while True:
        action, extras = agent.act(obs, first, True)
        time_step = env.step(action)
        reward = clip(time_step.reward) if clip_rewards else time_step.reward
        agent.observe(Step(obs, action, reward, time_step.discount, time_step.last, time_step.next_obs, extras))
        agent_steps += num_envs
        due = ratio.due(agent_steps)
        metrics = agent.learn(due) if due else None
        yield Moment(agent_steps, ratio.done, time_step, metrics)
        obs, first = time_step.obs, time_step.last


def clip(reward: Any) -> Any:
    """Rewards clipped to [-1, 1] (Mnih et al. 2015)."""
    return np.clip(reward, -1.0, 1.0) if isinstance(reward, np.ndarray) else min(max(reward, -1.0), 1.0)


class Episodes:
    """Returns and lengths of finished episodes, from raw rewards."""

    def __init__(self, env: Env, evaluation: Evaluation) -> None:
        """`evaluation` says which episodes are the last ones."""
        self._evaluation = evaluation
        self._steps = 0  # agent steps that were taken in
        self._recent: deque[tuple[float, int]] = deque()  # (return, when it ended)
        self.batched, self._num_envs = env.spec.batched, env.spec.num_envs
        self._return: Any = np.zeros(env.spec.num_envs) if self.batched else 0.0
        self._length: Any = np.zeros(env.spec.num_envs, np.int64) if self.batched else 0
        self.count = 0
        self.finished: list[tuple[float, int]] = []  # (return, agent steps), taken away by whoever logs them

    def add(self, time_step: TimeStep) -> None:
        """Takes in one agent step."""
        self._return += time_step.reward
        self._length += 1
        self._steps += self._num_envs
        if not self.batched:
            if time_step.last:
                self._finish(self._return, self._length)
                self._return, self._length = 0.0, 0
        elif time_step.last.any():
            for i in np.flatnonzero(time_step.last):
                self._finish(float(self._return[i]), int(self._length[i]))
            self._return[time_step.last] = 0
            self._length[time_step.last] = 0

    def begin_again(self) -> None:
        """New episodes everywhere; those that have ended are remembered."""
        self._return, self._length = self._return * 0, self._length * 0

    def state_dict(self) -> dict[str, Any]:
        """Of the episodes under way, and of those not logged yet."""
        running = {"return": self._return, "length": self._length, "count": self.count, "steps": self._steps}
        lists = {"finished": self.finished, "recent": self._recent}
        return {**running, **{name: [list(episode) for episode in some] for name, some in lists.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`; ValueError where that is of another number of environments."""
        if np.shape(state["return"]) != np.shape(self._return) or np.shape(state["length"]) != np.shape(self._length):
            raise ValueError(f"it is of {np.size(state['return'])} environments")
        self._return, self._length, self.count = state["return"], state["length"], int(state["count"])
        self._steps = int(state["steps"])
        self.finished = [(float(episode_return), int(length)) for episode_return, length in state["finished"]]
        self._recent = deque((float(episode_return), int(ended)) for episode_return, ended in state["recent"])

    def _finish(self, episode_return: float, length: int) -> None:
        self.count += 1
        self.finished.append((episode_return, length))
        self._recent.append((episode_return, self._steps))
        self._forget()

    def last_returns(self) -> list[float]:
        """Of the last episodes, as many as the protocol counts."""
        self._forget()
        return [episode_return for episode_return, _ in self._recent]

    def _forget(self) -> None:
        recent, last_steps = self._recent, self._evaluation.last_steps
        if last_steps is None:
            while len(recent) > self._evaluation.episodes:
                recent.popleft()
        else:
            while recent and recent[0][1] <= self._steps - last_steps:
                recent.popleft()
