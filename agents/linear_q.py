"""Q-learning with linear values over tile-coded features: a table that generalises."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.fit import bounds, finite_actions, plain_values
from qladder.agents.schedules import Clocks, Probability, Schedule
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator
from qladder.envs.tiles import TileCoder
from qladder.replay.returns import one_step


@dataclass(frozen=True)
class LinearQConfig:
    """Linear Q-learning with tile coding (Watkins 1989; Sutton and Barto 2018, 9.5.4)."""

    replay: ClassVar[type | None] = None

    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    step_size: Schedule = Schedule(0.3, 0.3, 0)  # noqa: RUF009 (frozen)
    """Share of the TD error that an update corrects, spread over the active tiles."""
    initial_value: float = 0.0
    """Where all values start; above any true value is optimism, which explores."""
    epsilon: Probability = Probability(0.1, 0.1, 0)  # noqa: RUF009 (frozen)
    """Probability of a random action while exploring."""
    tilings: Annotated[int, Gt(0)] = 16
    """Displaced grids; best a power of 2 and at least 4 per dimension."""
    tiles: tuple[Annotated[int, Gt(0)], ...] = (8,)
    """Tiles across each dimension in each grid; one number stands for all dimensions."""
    table_size: Annotated[int, Gt(0)] = 262_144
    """Tiles numbered at most; more share numbers by a hash."""
    low: tuple[float, ...] | None = None
    """Lower bounds of the grids; None: the environment's."""
    high: tuple[float, ...] | None = None
    reach: Annotated[float, Gt(0)] = 4.0
    """How far from 0 the bounds are where the environment gives none within 1000."""


class LinearQ:
    """Watkins' update on the weights of the active tiles; ties go to the lowest action."""

    Config = LinearQConfig
    batched: ClassVar[bool] = False

    def __init__(self, config: LinearQConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        plain_values("linear-q", spec)
        if spec.num_states is not None:
            raise UserError(f"linear-q cannot play {spec.id}: its states are numbered, not vectors; q-learning can")
        self._num_actions = finite_actions("linear-q", spec)
        low, high = bounds(spec, config.low, config.high, config.reach)
        tiles = config.tiles[0] if len(config.tiles) == 1 else config.tiles
        self._config = config
        self._coder = TileCoder(low, high, tiles, config.tilings, config.table_size)
        start = config.initial_value / config.tilings
        self._weights = [[start] * self._coder.num_features for _ in range(self._num_actions)]
        self._rng = generator(seed, "explore")
        self._random = self._rng.random
        self._agent_steps = self._updates = 0
        self._latest: Step | None = None
        self._known_obs: Any = None
        self._known: list[int] = []

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if explore:
            epsilon = self._config.epsilon(self._clocks())
            draw = self._random()
            if draw < epsilon:
                return int(draw / epsilon * self._num_actions), None
            active = self._features(obs)
        else:
            active = self._coder(obs, False)
        values = self._values(active)
        return values.index(max(values)), None

    def observe(self, step: Step) -> None:
        self._latest = step
        self._agent_steps += 1

    def learn(self, k: int) -> Metrics:
        step = self._latest
        assert step is not None
        active = self._features(step.obs)
        target = step.reward
        if step.discount:
            best = max(self._values(self._features(step.next_obs)))
            target += one_step(step.discount, self._config.gamma) * best
        weights = self._weights[step.action]
        for _ in range(k):
            value = sum(itemgetter(*active)(weights)) if len(active) > 1 else weights[active[0]]
            td = target - value
            change = self._config.step_size(self._clocks()) * td / len(active)
            for i in active:
                weights[i] += change
            self._updates += 1
        return {"loss/td": td * td / 2, "q/mean": value}

    def values(self, obs: Any) -> list[float]:
        """Action values `[A]` of one observation."""
        return self._values(self._coder(obs, False))

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": np.array(self._weights),
            "tiles": self._coder.state_dict(),
            "rng": self._rng.bit_generator.state,
            "agent_steps": self._agent_steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weights = state["weights"].tolist()
        self._coder.load_state_dict(state["tiles"])
        self._rng.bit_generator.state = state["rng"]
        self._agent_steps, self._updates = state["agent_steps"], state["updates"]

    def _features(self, obs: Any) -> list[int]:
        """Active tiles; those of the latest observation are kept, since it is asked for three times."""
        if obs is not self._known_obs:
            self._known_obs, self._known = obs, self._coder(obs)
        return self._known

    def _values(self, active: list[int]) -> list[float]:
        if len(active) == 1:
            return [weights[active[0]] for weights in self._weights]
        gather = itemgetter(*active)
        return [sum(gather(weights)) for weights in self._weights]

    def _clocks(self) -> Clocks:
        return Clocks(self._agent_steps, self._agent_steps, self._updates)
