"""Q-learning with a table: the rung on which all others stand."""

from __future__ import annotations

from qladder.agents.agent import Metrics
from qladder.agents.tables import Tabular
from qladder.replay.returns import one_step


class QLearning(Tabular):
    """Tabular Q-learning (Watkins 1989): the target is the best of what may follow, whatever is done then."""

    name = "q-learning"

    def learn(self, k: int) -> Metrics:
        step = self._latest
        best = max(self.values(step.next_obs))
        return self._approach(step.reward + one_step(step.discount, self._gamma) * best, k)
