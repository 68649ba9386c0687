"""What table agents share: settings, the number of a state, step sizes by visits; all but how they learn."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from qladder.agents.agent import EnvSpec, Metrics
from qladder.agents.fit import bounds, finite_actions, fitting, plain_values
from qladder.agents.schedules import Probability
from qladder.agents.single import Single
from qladder.envs.bins import UniformBins
from qladder.envs.errors import UserError

MOST_STATES = 10_000_000  # some gigabytes


@dataclass(frozen=True)
class TableConfig:
    """Settings of every agent with a table."""

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


def numbered(agent: str, config: TableConfig, spec: EnvSpec) -> tuple[Callable[[Any], int], int, int]:
    """The number of an observation's state, how many states there are, and how many actions.

    Raises:
        UserError: the environment is none for a table.
    """
    plain_values(agent, spec)
    num_actions = finite_actions(agent, spec)
    if spec.num_states is not None:
        if spec.num_states > MOST_STATES:
            raise UserError(
                f"{agent}: {spec.id} has {spec.num_states:.3g} states; a table holds at most {MOST_STATES:,}; "
                "a wrapper that shows its numbers as a vector (--env.wrappers module:function) can help"
            )
        return operator.index, spec.num_states, num_actions
    low, high = bounds(spec, config.low, config.high, config.reach)
    bins = UniformBins(low, high, config.bins[0] if len(config.bins) == 1 else config.bins)
    if bins.num_states > MOST_STATES:
        raise UserError(
            f"agent.bins = {list(config.bins)}: {bins.num_states:.3g} states for the {len(low)} values that {spec.id} "
            f"observes; a table holds at most {MOST_STATES:,}; fewer bins, linear-q or dqn can"
        )
    return bins, bins.num_states, num_actions


class Table:
    """Action values `q [S][A]`, and `visits [S][A]`, by which the step size of each pair falls."""

    def __init__(self, config: TableConfig, num_states: int, num_actions: int) -> None:
        self._size, self._power, self._min = config.step_size, config.step_size_power, config.step_size_min
        self.q = [[config.initial_value] * num_actions for _ in range(num_states)]
        self.visits = [[0] * num_actions for _ in range(num_states)]

    def step_size(self, state: int, action: int) -> float:
        """Of a pair that was visited."""
        if self._power:
            return max(self._size * self.visits[state][action] ** -self._power, self._min)
        return self._size

    def update(self, state: int, action: int, target: float) -> float:
        """Counts a visit and moves the pair's value towards `target`; the TD error from before."""
        self.visits[state][action] += 1
        values = self.q[state]
        td = target - values[action]
        values[action] += self.step_size(state, action) * td
        return td

    def state_dict(self) -> dict[str, Any]:
        """`q` and `visits`, `[S, A]`."""
        return {"q": np.array(self.q), "visits": np.array(self.visits)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`; ValueError where that is of another table."""
        shape = len(self.q), len(self.q[0])
        self.q, self.visits = (fitting(state[name], shape).tolist() for name in ("q", "visits"))


class Tabular(Single):
    """A table agent but for its `learn`, on discrete states or binned vectors; agents add one to it."""

    Config: ClassVar[Any] = TableConfig
    learnt: ClassVar[tuple[str, ...]] = ("q", "visits")

    def __init__(self, config: TableConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        self._state, num_states, num_actions = numbered(self.name, config, spec)
        self._table = Table(config, num_states, num_actions)
        super().__init__(config.gamma, config.epsilon, num_actions, seed, self._table)

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        return self._policy.act(self.values(obs), explore), None

    def values(self, obs: Any) -> list[float]:
        """Action values `[A]` of one observation."""
        return self._table.q[self._state(obs)]

    def _approach(self, target: float, k: int) -> Metrics:
        """`k` updates of the latest step's value towards `target`."""
        state, action = self._state(self._latest.obs), self._latest.action
        for _ in range(k):
            td = self._table.update(state, action, target)
        self._policy.updates += k
        self._errors.append(td)
        return {"loss/td": td * td / 2, "q/mean": self._table.q[state][action]}
