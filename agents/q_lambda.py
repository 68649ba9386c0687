"""Watkins' Q(lambda) with a table: a TD error corrects what led up to it too, back to the last exploratory action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.tables import TableConfig, Tabular
from qladder.agents.traces import TraceConfig, Traces
from qladder.replay.returns import one_step, trace


@dataclass(frozen=True)
class QLambdaConfig(TraceConfig, TableConfig):
    """Watkins' Q(lambda) (Watkins 1989, ch. 7)."""


class QLambda(Tabular):
    """Watkins' Q(lambda) (Watkins 1989): an action that is not greedy cuts the traces of all before it.

    Each pair is corrected by its own step size; visits are counted as they are observed.
    """

    name = "q-lambda"
    Config = QLambdaConfig

    def __init__(self, config: QLambdaConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        super().__init__(config, spec, seed=seed, device=device)
        self._traces = Traces(config, len(self._table.q[0]))
        self._trace_decay = config.trace_decay

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if first and explore:
            self._traces.clear()
        return super().act(obs, first, explore)

    def observe(self, step: Step) -> None:
        super().observe(step)
        state, action = self._state(step.obs), step.action
        values = self._table.q[state]
        if values[action] < max(values):
            self._traces.clear()
        self._traces.visit((state,), action, trace(step.discount, self._gamma, self._trace_decay))
        self._table.visits[state][action] += 1

    def learn(self, k: int) -> Metrics:
        table, step = self._table, self._latest
        state, action = self._state(step.obs), step.action
        target = step.reward + one_step(step.discount, self._gamma) * max(self.values(step.next_obs))
        for _ in range(k):
            td = target - table.q[state][action]
            for a, of in enumerate(self._traces.of):
                for s, eligibility in of.items():
                    table.q[s][a] += table.step_size(s, a) * eligibility * td
        self._policy.updates += k
        self._errors.append(td)
        return {"loss/td": td * td / 2, "q/mean": table.q[state][action]}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "traces": self._traces.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._traces.load_state_dict(state["traces"])
