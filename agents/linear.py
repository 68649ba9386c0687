"""What linear agents share: settings, features as a part, and values linear in them; all but how they learn."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from qladder.agents.agent import EnvSpec
from qladder.agents.fit import bounds, finite_actions, fitting, plain_values
from qladder.agents.schedules import Probability, Schedule
from qladder.agents.single import Single
from qladder.agents.traces import DenseTraces, TraceConfig, Traces
from qladder.envs.errors import UserError
from qladder.envs.fourier import FourierBasis
from qladder.envs.random_cosines import RandomCosines
from qladder.envs.rbf import RadialBasis
from qladder.envs.tiles import TileCoder

Basis = FourierBasis | RadialBasis | RandomCosines


@dataclass(frozen=True)
class LinearConfig:
    """Settings of every agent with linear values."""

    replay: ClassVar[type | None] = None

    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    step_size: Schedule = Schedule(0.3, 0.3, 0)  # noqa: RUF009 (frozen)
    """Share of the TD error that an update corrects, whatever the features."""
    initial_value: float = 0.0
    """Where all values start; above any true value is optimism, which explores."""
    epsilon: Probability = Probability(0.1, 0.1, 0)  # noqa: RUF009 (frozen)
    """Probability of a random action while exploring."""
    features: Literal["tiles", "fourier", "rbf", "random"] = "tiles"
    """Tile coding (Sutton and Barto 2018, 9.5.4), Fourier basis (Konidaris et al. 2011), Gaussians on a grid, or random
    cosines (Rahimi and Recht 2007)."""
    tilings: Annotated[int, Gt(0)] = 16
    """tiles: displaced grids; best a power of 2 and at least 4 per dimension."""
    tiles: tuple[Annotated[int, Gt(0)], ...] = (8,)
    """tiles: across each dimension in each grid; one number stands for all dimensions."""
    table_size: Annotated[int, Gt(0)] = 262_144
    """tiles: numbered at most; more share numbers by a hash."""
    order: tuple[Annotated[int, Gt(0)], ...] = (3,)
    """fourier: the highest frequency in each dimension; one number stands for all dimensions."""
    centers: tuple[Annotated[int, Gt(0)], ...] = (5,)
    """rbf: Gaussians across each dimension; one number stands for all dimensions."""
    width: Annotated[float, Gt(0)] = 0.5
    """rbf: a Gaussian's standard deviation, in spacings of the centers."""
    count: Annotated[int, Gt(0)] = 500
    """random: cosines beside a constant."""
    kernel_width: Annotated[float, Gt(0)] = 0.25
    """random: the standard deviation of the Gaussian that they stand for, as a share of each dimension's range."""
    low: tuple[float, ...] | None = None
    """Lower bounds of the features; None: the environment's."""
    high: tuple[float, ...] | None = None
    reach: Annotated[float, Gt(0)] = 4.0
    """How far from 0 the bounds are where the environment gives none within 1000."""


def linear_values(agent: str, config: LinearConfig, spec: EnvSpec, seed: int) -> SparseValues | DenseValues:
    """Values `[A]` that are linear in the features that the settings choose; random ones descend from `seed`.

    Raises:
        UserError: the environment is none for linear values, or the features do not fit it.
    """
    plain_values(agent, spec)
    if spec.num_states is not None:
        raise UserError(f"{agent} cannot play {spec.id}: its states are numbered, not vectors; q-learning can")
    num_actions = finite_actions(agent, spec)
    low, high = bounds(spec, config.low, config.high, config.reach)
    tiles, order, centers = (n[0] if len(n) == 1 else n for n in (config.tiles, config.order, config.centers))
    try:
        if config.features == "tiles":
            coder = TileCoder(low, high, tiles, config.tilings, config.table_size)
            return SparseValues(coder, num_actions, config.initial_value)
        if config.features == "fourier":
            return DenseValues(FourierBasis(low, high, order), num_actions, config.initial_value)
        if config.features == "random":
            basis = RandomCosines(low, high, config.count, config.kernel_width, seed)
            return DenseValues(basis, num_actions, config.initial_value)
        return DenseValues(RadialBasis(low, high, centers, config.width), num_actions, config.initial_value)
    except UserError as error:
        raise UserError(f"agent.{error}") from error


class SparseValues:
    """Linear values of tiles: few features are 1, all others 0."""

    def __init__(self, coder: TileCoder, num_actions: int, initial_value: float) -> None:
        self._coder = coder
        self._weights = [[initial_value / coder.tilings] * coder.num_features for _ in range(num_actions)]

    def features(self, obs: Any, remember: bool) -> list[int]:
        """The active tiles; with `remember` False no new one is numbered."""
        return self._coder(obs, remember)

    def values(self, active: list[int]) -> list[float]:
        """The value of each action `[A]`."""
        if len(active) == 1:
            return [weights[active[0]] for weights in self._weights]
        gather = itemgetter(*active)
        return [sum(gather(weights)) for weights in self._weights]

    def value(self, active: list[int], action: int) -> float:
        """The value of one action."""
        weights = self._weights[action]
        return sum(itemgetter(*active)(weights)) if len(active) > 1 else weights[active[0]]

    def move(self, active: list[int], action: int, change: float) -> None:
        """Changes the value of one action here by `change`."""
        weights, share = self._weights[action], change / len(active)
        for i in active:
            weights[i] += share

    def traces(self, config: TraceConfig) -> Traces:
        """Traces for `follow`, all of them 0."""
        return Traces(config, len(self._weights))

    def follow(self, traces: Traces, change: float) -> None:
        """Changes the value wherever there is a trace, by `change` where all active features have a trace of 1."""
        share = change / self._coder.tilings
        for weights, of in zip(self._weights, traces.of, strict=True):
            for i, eligibility in of.items():
                weights[i] += share * eligibility

    def state_dict(self) -> dict[str, Any]:
        """`weights [A, F]`, and which tiles were numbered so far."""
        return {"weights": np.array(self._weights), "tiles": self._coder.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`; ValueError where that is of other features."""
        self._weights = fitting(state["weights"], (len(self._weights), len(self._weights[0]))).tolist()
        self._coder.load_state_dict(state["tiles"])


class DenseValues:
    """Linear values of features that all matter everywhere, each with a relative step size (`scale`) of its own.

    Step sizes are divided by what they would change the value by, so that here too they are shares of the TD error
    (Nagumo and Noda 1967).
    """

    def __init__(
        self, basis: FourierBasis | RadialBasis | RandomCosines, num_actions: int, initial_value: float
    ) -> None:
        self._basis = basis
        self._weights = np.tile(basis.constant(initial_value), (num_actions, 1))

    def features(self, obs: Any, remember: bool) -> NDArray[np.float64]:
        """The features `[F]`."""
        return self._basis(obs)

    def values(self, features: NDArray[np.float64]) -> list[float]:
        """The value of each action `[A]`."""
        return (self._weights @ features).tolist()

    def value(self, features: NDArray[np.float64], action: int) -> float:
        """The value of one action."""
        return float(self._weights[action] @ features)

    def move(self, features: NDArray[np.float64], action: int, change: float) -> None:
        """Changes the value of one action here by `change`."""
        self._weights[action] += change * self.direction(features)

    def direction(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """How to change weights `[F]` for a value that is greater by 1."""
        scaled = self._basis.scale * features
        return scaled / (scaled @ features)

    def traces(self, config: TraceConfig) -> DenseTraces:
        """Traces for `follow`, all of them 0."""
        return DenseTraces(config, self._weights.shape, self.direction)

    def follow(self, traces: DenseTraces, change: float) -> None:
        """Changes weights along their traces."""
        self._weights += change * traces.of

    def state_dict(self) -> dict[str, Any]:
        """`weights [A, F]`, and random `features`, without which these mean nothing."""
        basis, state = self._basis, {"weights": self._weights.copy()}
        if isinstance(basis, RandomCosines):
            return {**state, "features": {"directions": basis.directions, "shifts": basis.shifts}}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`; ValueError where that is of other features."""
        self._weights = np.array(fitting(state["weights"], self._weights.shape))
        if isinstance(self._basis, RandomCosines):
            basis, features = self._basis, state["features"]
            basis.directions = np.array(fitting(features["directions"], basis.directions.shape))
            basis.shifts = np.array(fitting(features["shifts"], basis.shifts.shape))


class Linear(Single):
    """A linear agent but for its `learn`; ties go to the lowest action; agents add one to it."""

    Config: ClassVar[Any] = LinearConfig
    learnt: ClassVar[tuple[str, ...]] = ("weights", "tiles", "features")

    def __init__(self, config: LinearConfig, spec: EnvSpec, *, seed: int, device: str) -> None:
        self._step_size = config.step_size
        # Any: whichever it is, it meets no features but its own
        self._linear: Any = linear_values(self.name, config, spec, seed)
        super().__init__(config.gamma, config.epsilon, finite_actions(self.name, spec), seed, self._linear)
        self._known_obs: Any = None
        self._known: Any = None

    def act(self, obs: Any, first: Any, explore: bool) -> tuple[Any, Any]:
        features = self._features(obs) if explore else self._linear.features(obs, False)
        return self._policy.act(self._linear.values(features), explore), None

    def values(self, obs: Any) -> list[float]:
        """Action values `[A]` of one observation."""
        return self._linear.values(self._linear.features(obs, False))

    def _features(self, obs: Any) -> Any:
        """The features of the latest observation are kept, since they are asked for three times."""
        if obs is not self._known_obs:
            self._known_obs, self._known = obs, self._linear.features(obs, True)
        return self._known

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._known_obs = None
