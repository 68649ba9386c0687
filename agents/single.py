"""What agents of one environment share: epsilon-greedy over values that are kept somewhere, and checkpoints."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from qladder.agents.agent import Step
from qladder.agents.exploration import EpsilonGreedy
from qladder.agents.schedules import Schedule


class Kept(Protocol):
    """Where values are kept: a table, or weights."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Single:
    """Counts steps, keeps the latest one, and saves. No agent itself."""

    batched: ClassVar[bool] = False
    name: ClassVar[str]
    _latest: Step

    def __init__(self, gamma: float, epsilon: Schedule, num_actions: int, seed: int, kept: Kept) -> None:
        self._gamma, self._kept = gamma, kept
        self._policy = EpsilonGreedy(epsilon, num_actions, seed)

    def observe(self, step: Step) -> None:
        self._latest = step
        self._policy.agent_steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {**self._kept.state_dict(), **self._policy.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept.load_state_dict(state)
        self._policy.load_state_dict(state)
