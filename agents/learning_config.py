"""The settings of deep Q-learning from a replay, whatever the network, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from qladder.agents.network_config import NetworkConfig
from qladder.agents.schedules import Probability, Schedule


@dataclass(frozen=True)
class LearningConfig(NetworkConfig):
    """Watkins' target, a frozen target network, epsilon-greedy exploration, and how the network is fitted."""

    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    optimizer: Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"] = "adam"
    """`rmsprop` is the paper's: centred, decay 0.95, epsilon (there 0.01) inside the root. Momentum is 0.9,
    the decay of `adamw`'s weights 0.01."""
    learning_rate: Schedule = Schedule(1e-3, 1e-3, 0, "updates")  # noqa: RUF009 (frozen)
    optimizer_eps: Annotated[float, Gt(0)] = 1e-8
    """Of Adagrad, RMSProp and Adam."""
    loss: Literal["huber", "mse"] = "huber"
    """Of a mean's TD error; quantiles have Huber's, categorical distributions the cross-entropy."""
    double: bool = False
    """The online network chooses the next action, the target network values it (van Hasselt et al. 2016)."""
    importance: Probability = Probability(0.4, 1.0, 1_000_000)  # noqa: RUF009 (frozen)
    """Exponent of the importance weights of a prioritised replay (beta)."""
    max_grad_norm: Annotated[float, Gt(0)] | None = None
    """Longer gradients are scaled down to this norm."""
    target_period: Annotated[int, Gt(0)] = 250
    """Updates from one copy of the online to the target network to the next."""
    target_tau: Annotated[float, Gt(0), Le(1)] = 1.0
    """Share of the online network in each copy; 1 is a hard copy, less is Polyak averaging."""
    epsilon: Probability = Probability(1.0, 0.05, 10_000)  # noqa: RUF009 (frozen)
    """Probability of a random action while exploring."""
    explore_power: Annotated[float, Gt(1)] | None = None
    """ez-greedy (Dabney et al. 2021): random actions last a zeta-distributed number of steps, with this exponent; none:
    one step."""
