"""Double Q-learning with two tables: one chooses the best next action, the other says what it is worth."""

from __future__ import annotations

from typing import Any

from qladder.agents.agent import EnvSpec, Metrics
from qladder.agents.tables import Table, TableConfig, Tabular
from qladder.envs.seeding import generator
from qladder.replay.returns import one_step


class DoubleQLearning(Tabular):
    """Double Q-learning (van Hasselt 2010): a coin says which table learns; what both say together is acted on."""

    name = "double-q-learning"
    learnt = ("q", "visits", "second")

    def __init__(self, config: TableConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        super().__init__(config, spec, seed=seed, device=device)
        self._tables = (self._table, Table(config, len(self._table.q), len(self._table.q[0])))
        self._coin = generator(seed, "coin")

    def values(self, obs: Any) -> list[float]:
        """The mean of both tables `[A]`, for one observation."""
        state = self._state(obs)
        return [(a + b) / 2 for a, b in zip(*(table.q[state] for table in self._tables), strict=True)]

    def learn(self, k: int) -> Metrics:
        step = self._latest
        state, next_state = self._state(step.obs), self._state(step.next_obs)
        for _ in range(k):
            learner, judge = self._tables if self._coin.random() < 0.5 else self._tables[::-1]
            best = learner.q[next_state].index(max(learner.q[next_state]))
            target = step.reward + one_step(step.discount, self._gamma) * judge.q[next_state][best]
            td = learner.update(state, step.action, target)
        self._policy.updates += k
        self._errors.append(td)
        return {"loss/td": td * td / 2, "q/mean": learner.q[state][step.action]}

    def state_dict(self) -> dict[str, Any]:
        second = self._tables[1].state_dict()
        return {**super().state_dict(), "second": second, "coin": self._coin.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._tables[1].load_state_dict(state["second"])
        self._coin.bit_generator.state = state["coin"]
