"""Expected SARSA with a table: SARSA without the chance of the next action."""

from __future__ import annotations

from qladder.agents.agent import Metrics
from qladder.agents.tables import Tabular
from qladder.replay.returns import one_step


class ExpectedSarsa(Tabular):
    """Tabular expected SARSA (van Seijen et al. 2009): the target is the mean over what it may do next."""

    name = "expected-sarsa"

    def learn(self, k: int) -> Metrics:
        step = self._latest
        mean = self._policy.expected(self.values(step.next_obs))
        return self._approach(step.reward + one_step(step.discount, self._gamma) * mean, k)
