"""Numbers that change over a run; every schedule names the clock that it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Le

Clock = Literal["frames", "agent_steps", "updates"]


class Clocks(NamedTuple):
    """Where a run is on its three clocks."""

    frames: int
    agent_steps: int
    updates: int


@dataclass(frozen=True)
class Schedule:
    """Linear from `start` to `end` over `over` ticks of the clock, after `begin` ticks at `start`."""

    start: Annotated[float, Ge(0)]
    end: Annotated[float, Ge(0)]
    over: Annotated[int, Ge(0)]
    clock: Clock = "agent_steps"
    begin: Annotated[int, Ge(0)] = 0

    def __call__(self, clocks: Clocks) -> float:
        """The value at these clocks."""
        now: int = getattr(clocks, self.clock) - self.begin
        if now < 0:
            return self.start
        if now >= self.over:
            return self.end
        return self.start + (self.end - self.start) * now / self.over


@dataclass(frozen=True)
class Probability(Schedule):
    """A schedule of a probability."""

    start: Annotated[float, Ge(0), Le(1)]
    end: Annotated[float, Ge(0), Le(1)]


def constant(value: float) -> Schedule:
    """A schedule that stays where it is."""
    return Schedule(value, value, 0)
