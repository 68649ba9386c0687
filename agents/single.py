"""What agents of one environment share: epsilon-greedy over values that are kept somewhere, and checkpoints."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Protocol

import numpy as np

from qladder.agents.agent import Metrics, Step
from qladder.agents.exploration import EpsilonGreedy
from qladder.agents.fit import fitting
from qladder.agents.schedules import Schedule

LATEST = 1_000  # TD errors that are remembered


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
        self._errors: deque[float] = deque(maxlen=LATEST)

    def observe(self, step: Step) -> None:
        self._latest = step
        self._policy.agent_steps += 1

    def health(self) -> Metrics:
        if not self._errors:
            return {}
        low, median, high = np.quantile(self._errors, (0.05, 0.5, 0.95))
        return {"health/td_error_p05": low, "health/td_error_p50": median, "health/td_error_p95": high}

    def state_dict(self) -> dict[str, Any]:
        kept = {**self._kept.state_dict(), **self._policy.state_dict()}
        return {**kept, "errors": np.array(self._errors, np.float64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept.load_state_dict(state)
        self._policy.load_state_dict(state)
        self._errors = deque(fitting(state["errors"], state["errors"].shape[:1]).tolist(), LATEST)
