"""Dyna-Q with a table: Q-learning that goes on learning from a model of what it has seen."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.tables import TableConfig, Tabular
from qladder.envs.seeding import generator
from qladder.replay.returns import one_step

Outcome = tuple[float, float, int]  # reward, discount, next state


class Model:
    """What each state and action led to and how often: a sample model (Sutton and Barto 2018, 8.2)."""

    def __init__(self, seed: int) -> None:
        self._pairs: list[tuple[int, int]] = []  # in the order in which they were met
        self._counts: dict[tuple[int, int], dict[Outcome, int]] = {}
        self._rng = generator(seed, "model")

    def add(self, state: int, action: int, outcome: Outcome) -> None:
        """Takes in what happened."""
        pair = (state, action)
        if pair not in self._counts:
            self._pairs.append(pair)
        counts = self._counts.setdefault(pair, {})
        counts[outcome] = counts.get(outcome, 0) + 1

    def sample(self) -> tuple[int, int, Outcome]:
        """A state and action met before, each as likely, and an outcome as likely as it was frequent."""
        pair = self._pairs[int(self._rng.random() * len(self._pairs))]
        counts = self._counts[pair]
        left = int(self._rng.random() * sum(counts.values()))
        return *pair, next(
            outcome for outcome, upto in zip(counts, accumulate(counts.values()), strict=True) if left < upto
        )

    def state_dict(self) -> dict[str, Any]:
        """One row for each outcome of each pair, in the order of `_pairs`; the generator."""
        rows = [(*pair, *outcome, count) for pair in self._pairs for outcome, count in self._counts[pair].items()]
        return {"rows": np.array(rows, np.float64).reshape(-1, 6), "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self._counts = {}
        for s, a, reward, discount, next_state, count in state["rows"].tolist():
            self._counts.setdefault((int(s), int(a)), {})[reward, discount, int(next_state)] = int(count)
        self._pairs = list(self._counts)
        self._rng.bit_generator.state = state["rng"]


class DynaQ(Tabular):
    """Dyna-Q (Sutton 1990): of `k` updates the first is from the latest step, all others are from the model."""

    name = "dyna-q"

    def __init__(self, config: TableConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        super().__init__(config, spec, seed=seed, device=device)
        self._model = Model(seed)

    def observe(self, step: Step) -> None:
        super().observe(step)
        self._model.add(*self._told(step))

    def learn(self, k: int) -> Metrics:
        state, action, outcome = self._told(self._latest)
        td = self._update(state, action, outcome)
        for _ in range(k - 1):
            self._update(*self._model.sample())
        self._policy.updates += k
        self._errors.append(td)
        return {"loss/td": td * td / 2, "q/mean": self._table.q[state][action]}

    def _told(self, step: Step) -> tuple[int, int, Outcome]:
        return self._state(step.obs), step.action, (step.reward, step.discount, self._state(step.next_obs))

    def _update(self, state: int, action: int, outcome: Outcome) -> float:
        reward, discount, next_state = outcome
        target = reward + one_step(discount, self._gamma) * max(self._table.q[next_state])
        return self._table.update(state, action, target)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "model": self._model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._model.load_state_dict(state["model"])
