"""The lowest rung: uniformly random actions, nothing learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.fit import finite_actions
from qladder.envs.seeding import generator


@dataclass(frozen=True)
class RandomConfig:
    """Nothing to set."""

    replay: ClassVar[type | None] = None


class Random:
    """Acts uniformly at random; `evaluation_epsilon` makes its evaluation random too."""

    Config = RandomConfig
    batched = True
    evaluation_epsilon = 1.0

    def __init__(self, config: RandomConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        self._num_actions = finite_actions("random", spec)
        self._rng = generator(seed, "explore")

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if not explore:
            return np.zeros(len(obs), np.int64), None
        return self._rng.integers(self._num_actions, size=len(obs)), None

    def observe(self, step: Step) -> None:
        pass

    def learn(self, k: int) -> Metrics:
        return {}

    def health(self) -> Metrics:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state["rng"]
