"""SARSA with a table: it learns the value of what it does, exploration included."""

from __future__ import annotations

from typing import Any

from qladder.agents.agent import EnvSpec, Metrics
from qladder.agents.exploration import NextAction
from qladder.agents.tables import TableConfig, Tabular
from qladder.replay.returns import one_step


class Sarsa(Tabular):
    """Tabular SARSA (Rummery and Niranjan 1994): the next action that a target needs is the one that is taken then."""

    name = "sarsa"

    def __init__(self, config: TableConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        super().__init__(config, spec, seed=seed, device=device)
        self._next_action = NextAction()

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        chosen = self._next_action.take(first) if explore else None
        return super().act(obs, first, explore) if chosen is None else (chosen, None)

    def learn(self, k: int) -> Metrics:
        step, target = self._latest, self._latest.reward
        if step.discount:
            following = self.values(step.next_obs)
            action = self._next_action.keep(self._policy.act(following, True))
            target += one_step(step.discount, self._gamma) * following[action]
        return self._approach(target, k)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "next_action": self._next_action.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._next_action.state = state["next_action"]
