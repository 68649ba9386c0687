"""Eligibility traces: how much each action's features answer for the TD errors to come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Lt
from numpy.typing import NDArray

from qladder.envs.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TraceConfig:
    """Settings of every agent with traces."""

    trace_decay: Annotated[float, Ge(0), Le(1)] = 0.9
    """Lambda: 0 learns from one step; 1, without bootstrapping, from whole returns (Sutton 1988)."""
    traces: Literal["accumulating", "replacing"] = "replacing"
    """Whether another visit adds 1 to what is left of the last one, or makes it 1 (Singh and Sutton 1996)."""
    trace_min: Annotated[float, Ge(0), Lt(1)] = 0.01
    """Traces below this are dropped, which keeps updates of tables and tiles cheap; 0: none is."""


class Traces:
    """Sparse traces of features that are 0 or 1, such as the states of a table or tiles; those of all others are 0."""

    def __init__(self, config: TraceConfig, num_actions: int) -> None:
        self._replacing, self._min = config.traces == "replacing", config.trace_min
        self.of: list[dict[int, float]] = [{} for _ in range(num_actions)]  # [A] feature -> trace
        self._fading = 1.0

    def visit(self, active: Iterable[int], action: int, fading: float) -> None:
        """The action was taken where these features are 1; before the next visit all traces fade by `fading`."""
        if self._fading != 1.0:
            factor, least = self._fading, self._min
            self.of = [{i: e * factor for i, e in of.items() if e * factor > least} for of in self.of]
        of, replacing = self.of[action], self._replacing
        for i in active:
            of[i] = 1.0 if replacing else of.get(i, 0.0) + 1.0
        self._fading = fading

    def clear(self) -> None:
        """Nothing before now counts."""
        self.of = [{} for _ in self.of]

    def state_dict(self) -> dict[str, Any]:
        """One entry for each trace."""
        rows = [(action, i, e) for action, of in enumerate(self.of) for i, e in of.items()]
        action, feature, trace = zip(*rows, strict=True) if rows else ((), (), ())
        return {
            "action": np.array(action, np.int64),
            "feature": np.array(feature, np.int64),
            "trace": np.array(trace, np.float64),
            "fading": self._fading,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.clear()
        for action, i, e in zip(*(state[name].tolist() for name in ("action", "feature", "trace")), strict=True):
            self.of[action][i] = e
        self._fading = state["fading"]


class DenseTraces:
    """Traces `of [A, F]` of features that all matter everywhere: sums of the directions in which visits would learn."""

    def __init__(self, config: TraceConfig, shape: tuple[int, ...], direction: Callable[[Floats], Floats]) -> None:
        if config.traces == "replacing":
            raise UserError(
                "agent.traces = 'replacing': only tables and tiles have features that are 0 or 1; accumulating works"
            )
        self._direction = direction
        self.of = np.zeros(shape)
        self._fading = 1.0

    def visit(self, features: Floats, action: int, fading: float) -> None:
        """The action was taken at these features; before the next visit all traces fade by `fading`."""
        self.of *= self._fading
        self.of[action] += self._direction(features)
        self._fading = fading

    def clear(self) -> None:
        """Nothing before now counts."""
        self.of[:] = 0.0

    def state_dict(self) -> dict[str, Any]:
        """`traces [A, F]`, and how they fade next."""
        return {"traces": self.of.copy(), "fading": self._fading}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.of, self._fading = np.array(state["traces"]), state["fading"]
