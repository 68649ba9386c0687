"""What a run does every so many agent steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Due:
    """Actions with their periods in agent steps; each falls due at the multiples of its own."""

    def __init__(self, every: Mapping[Callable[[], None], int], agent_steps: int) -> None:
        """`agent_steps`: where the run is; what falls due there has been done."""
        self._every = every
        self._due = {action: (agent_steps // period + 1) * period for action, period in every.items()}

    @property
    def next(self) -> int:
        """The agent steps at which something is due."""
        return min(self._due.values())

    def do(self, agent_steps: int) -> None:
        """What is due at `agent_steps` or was before, each once, in order."""
        for action, period in self._every.items():
            if agent_steps >= self._due[action]:
                action()
                self._due[action] = (agent_steps // period + 1) * period
