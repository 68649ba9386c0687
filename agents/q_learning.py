"""Q-learning with a table: the rung on which all others stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from qladder.agents.agent import EnvSpec, Metrics, Step
from qladder.agents.fit import bounds, finite_actions, plain_values
from qladder.agents.schedules import Clocks, Probability
from qladder.envs.bins import UniformBins
from qladder.envs.errors import UserError
from qladder.envs.seeding import generator
from qladder.replay.returns import one_step

MOST_STATES = 10_000_000  # some gigabytes


@dataclass(frozen=True)
class QLearningConfig:
    """Tabular Q-learning (Watkins 1989)."""

    replay: ClassVar[type | None] = None

    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    step_size: Annotated[float, Gt(0), Le(1)] = 0.1
    """Share of the TD error that an update corrects, at a first visit."""
    step_size_power: Annotated[float, Ge(0), Le(1)] = 0.0
    """The step size falls as visits of the state-action pair ** -power (Even-Dar and Mansour 2003); 0: it stays."""
    step_size_min: Annotated[float, Ge(0), Le(1)] = 0.0
    """It falls no further than this."""
    initial_value: float = 0.0
    """What the table starts from; above any true value is optimism, which explores (Sutton and Barto 2018, 2.6)."""
    epsilon: Probability = Probability(0.1, 0.1, 0)  # noqa: RUF009 (frozen)
    """Probability of a random action while exploring."""
    bins: tuple[Annotated[int, Gt(0)], ...] = (10,)
    """Bins in each dimension of a continuous observation; one number stands for all dimensions."""
    low: tuple[float, ...] | None = None
    """Lower bounds of the bins; None: the environment's."""
    high: tuple[float, ...] | None = None
    reach: Annotated[float, Gt(0)] = 4.0
    """How far from 0 the bounds are where the environment gives none within 1000."""


class QLearning:
    """Tabular Q-learning (Watkins 1989), on numbered states or binned vectors; ties go to the lowest action."""

    Config = QLearningConfig
    batched: ClassVar[bool] = False

    def __init__(self, config: QLearningConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        plain_values("q-learning", spec)
        self._num_actions = finite_actions("q-learning", spec)
        self._config = config
        self._state: Callable[[Any], int] | None = None
        num_states = spec.num_states
        if num_states is None:
            bins = _bins(config, spec)
            self._state, num_states = bins, bins.num_states
        self._q = [[config.initial_value] * self._num_actions for _ in range(num_states)]
        self._visits = [[0] * self._num_actions for _ in range(num_states)]
        self._rng = generator(seed, "explore")
        self._random = self._rng.random
        self._agent_steps = self._updates = 0
        self._latest: Step | None = None

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        if explore:
            epsilon = self._config.epsilon(Clocks(self._agent_steps, self._agent_steps, self._updates))
            draw = self._random()
            if draw < epsilon:
                return int(draw / epsilon * self._num_actions), None
        values = self._q[obs if self._state is None else self._state(obs)]
        return values.index(max(values)), None

    def observe(self, step: Step) -> None:
        self._latest = step
        self._agent_steps += 1

    def learn(self, k: int) -> Metrics:
        step = self._latest
        assert step is not None
        config = self._config
        state, next_state = step.obs, step.next_obs
        if self._state is not None:
            state, next_state = self._state(state), self._state(next_state)
        values, visits, action = self._q[state], self._visits[state], step.action
        target = step.reward + one_step(step.discount, config.gamma) * max(self._q[next_state])
        for _ in range(k):
            visits[action] += 1
            size = config.step_size
            if config.step_size_power:
                size = max(size * visits[action] ** -config.step_size_power, config.step_size_min)
            td = target - values[action]
            values[action] += size * td
        self._updates += k
        return {"loss/td": td * td / 2, "q/mean": values[action]}

    def values(self, obs: Any) -> list[float]:
        """Action values `[A]` of one observation."""
        return self._q[obs if self._state is None else self._state(obs)]

    def state_dict(self) -> dict[str, Any]:
        return {
            "q": np.array(self._q),
            "visits": np.array(self._visits),
            "rng": self._rng.bit_generator.state,
            "agent_steps": self._agent_steps,
            "updates": self._updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._q, self._visits = state["q"].tolist(), state["visits"].tolist()
        self._rng.bit_generator.state = state["rng"]
        self._agent_steps, self._updates = state["agent_steps"], state["updates"]


def _bins(config: QLearningConfig, spec: EnvSpec) -> UniformBins:
    low, high = bounds(spec, config.low, config.high, config.reach)
    bins = UniformBins(low, high, config.bins[0] if len(config.bins) == 1 else config.bins)
    if bins.num_states > MOST_STATES:
        raise UserError(
            f"agent.bins = {list(config.bins)}: {bins.num_states:.3g} states for the {len(low)} values that {spec.id} "
            f"observes; a table holds at most {MOST_STATES:,}; fewer bins, linear-q or dqn can"
        )
    return bins
