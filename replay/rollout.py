"""A memory that is learnt from once: all steps of N environments since the last time, in their order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from qladder.replay.returns import lambda_returns
from qladder.replay.types import Step

FIELDS = ("obs", "action", "reward", "discount", "last", "extras")


class Targets(NamedTuple):
    """All that a rollout has to learn from, `B = T * N` steps."""

    obs: Any  # [B, ...]
    action: Any  # [B]
    target: Any  # [B] float32, the lambda returns


class Rollout:
    """Steps in order; a step's `extras [N]` are the value of its `obs`, as it was when the agent acted on it.

    So the value of what a step led to is known from the next step, but for the last one and for those that were
    truncated: their true successors, kept in `ends`, are all that is left to be valued.
    """

    def __init__(self, gamma: float, trace_decay: float) -> None:
        self._gamma, self._trace_decay = gamma, trace_decay
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._steps: dict[str, list[Any]] = {name: [] for name in FIELDS}
        self._next_obs: Any = None  # of the latest step
        self._cut: list[tuple[int, Any, Any]] = []  # step, environments [E], what they were truncated at [E, ...]

    def __len__(self) -> int:
        """Steps of all environments together."""
        return sum(map(len, self._steps["action"]))

    def add(self, step: Step) -> None:
        """Takes in one agent step; arrays are copied."""
        self._keep_cut()
        for name, rows in self._steps.items():
            rows.append(np.array(getattr(step, name)))
        self._next_obs = np.array(step.next_obs)

    def stop(self, first: Any) -> None:
        """Truncates what was under way in those environments that now start an episode, as after a resume."""
        if self._next_obs is not None:
            self._steps["last"][-1] |= first

    def ends(self) -> Any:
        """The observations `[E, ...]` whose values `targets` needs."""
        return np.concatenate([*(obs for _, _, obs in self._cut), self._next_obs])

    def targets(self, end_values: Any) -> Targets:
        """Everything to learn from, given the values `[E]` of `ends`."""
        steps = {name: np.stack(rows) for name, rows in self._steps.items()}
        num_envs = len(self._next_obs)
        next_value = np.concatenate([steps["extras"][1:], end_values[None, -num_envs:]])
        taken = 0
        for t, envs, _ in self._cut:
            next_value[t, envs] = end_values[taken : taken + len(envs)]
            taken += len(envs)
        told = (steps["reward"], steps["discount"], steps["last"], next_value)
        target = lambda_returns(*told, gamma=self._gamma, trace_decay=self._trace_decay)
        return Targets(*(a.reshape(-1, *a.shape[2:]) for a in (steps["obs"], steps["action"], target)))

    def state_dict(self) -> dict[str, Any]:
        """Arrays, nothing where it is empty."""
        if self._next_obs is None:
            return {}
        cut = [{"step": t, "envs": envs, "obs": obs} for t, envs, obs in self._cut]
        return {name: np.stack(rows) for name, rows in self._steps.items()} | {"next_obs": self._next_obs, "cut": cut}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.clear()
        if state:
            self._steps = {name: list(np.array(state[name])) for name in FIELDS}
            self._next_obs = state["next_obs"]
            self._cut = [(cut["step"], cut["envs"], cut["obs"]) for cut in state["cut"]]

    def _keep_cut(self) -> None:
        """Another step follows the latest one: where that was truncated, this one's value is not its successor's."""
        if self._next_obs is None:
            return
        envs = np.flatnonzero(self._steps["last"][-1] & (self._steps["discount"][-1] > 0))
        if len(envs):
            self._cut.append((len(self._steps["last"]) - 1, envs, self._next_obs[envs]))
