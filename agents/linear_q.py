"""Q-learning with linear values: a table that generalises."""

from __future__ import annotations

from qladder.agents.agent import Metrics
from qladder.agents.linear import Linear
from qladder.replay.returns import one_step


class LinearQ(Linear):
    """Watkins' update on the weights of the features (Watkins 1989; Sutton and Barto 2018, 9.5)."""

    name = "linear-q"

    def learn(self, k: int) -> Metrics:
        step = self._latest
        features, target = self._features(step.obs), step.reward
        if step.discount:
            best = max(self._linear.values(self._features(step.next_obs)))
            target += one_step(step.discount, self._gamma) * best
        for _ in range(k):
            value = self._linear.value(features, step.action)
            td = target - value
            self._linear.move(features, step.action, self._step_size(self._policy.clocks) * td)
            self._policy.updates += 1
        self._errors.append(td)
        return {"loss/td": td * td / 2, "q/mean": value}
