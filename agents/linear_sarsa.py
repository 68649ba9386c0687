"""SARSA(lambda) with linear values: what is learnt of an action is learnt of what led to it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.exploration import NextAction
from qladder.agents.linear import Linear, LinearConfig
from qladder.agents.traces import TraceConfig
from qladder.replay.returns import one_step, trace


@dataclass(frozen=True)
class LinearSarsaConfig(TraceConfig, LinearConfig):
    """Linear SARSA(lambda) (Rummery and Niranjan 1994; Sutton and Barto 2018, 12.7)."""


class LinearSarsa(Linear):
    """Linear SARSA(lambda) (Sutton and Barto 2018, 12.7): the next action of a target is the one that is taken then."""

    name = "linear-sarsa"
    Config = LinearSarsaConfig

    def __init__(self, config: LinearSarsaConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        super().__init__(config, spec, seed=seed, device=device)
        self._traces = self._linear.traces(config)
        self._trace_decay = config.trace_decay
        self._next_action = NextAction()

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if first and explore:
            self._traces.clear()
        chosen = self._next_action.take(first) if explore else None
        return super().act(obs, first, explore) if chosen is None else (chosen, None)

    def observe(self, step: Step) -> None:
        super().observe(step)
        fading = trace(step.discount, self._gamma, self._trace_decay)
        self._traces.visit(self._features(step.obs), step.action, fading)

    def learn(self, k: int) -> Metrics:
        step = self._latest
        features, target = self._features(step.obs), step.reward
        if step.discount:
            following = self._linear.values(self._features(step.next_obs))
            action = self._next_action.keep(self._policy.act(following, True))
            target += one_step(step.discount, self._gamma) * following[action]
        for _ in range(k):
            value = self._linear.value(features, step.action)
            td = target - value
            self._linear.follow(self._traces, self._step_size(self._policy.clocks) * td)
            self._policy.updates += 1
        self._errors.append(td)
        return {"loss/td": td * td / 2, "q/mean": value}

    def state_dict(self) -> dict[str, Any]:
        pending = {"traces": self._traces.state_dict(), "next_action": self._next_action.state}
        return {**super().state_dict(), **pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._traces.load_state_dict(state["traces"])
        self._next_action.state = state["next_action"]
