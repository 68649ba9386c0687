"""The settings of DQN, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from qladder.agents.network_config import NetworkConfig
from qladder.agents.schedules import Probability, Schedule
from qladder.envs.errors import refuse
from qladder.replay.frames import ReplayConfig


@dataclass(frozen=True)
class DQNConfig(NetworkConfig):
    """Deep Q-network (Mnih et al. 2015) and its relatives."""

    replay: ClassVar[type | None] = ReplayConfig

    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    learner: Literal["auto", "eager", "cpu-bf16", "cuda-graph"] = "auto"
    """Arithmetic of the updates; auto: the fastest that the machine can do. `cpu-bf16` is for the Nature CNN,
    `cuda-graph` for a GPU and Adam, without noise, implicit quantiles, or a prioritised or compressed replay."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """`rmsprop` is the paper's: centred, decay 0.95, epsilon (there 0.01) inside the root."""
    learning_rate: Schedule = Schedule(1e-3, 1e-3, 0, "updates")  # noqa: RUF009 (frozen)
    optimizer_eps: Annotated[float, Gt(0)] = 1e-8
    loss: Literal["huber", "mse"] = "huber"
    """Of a mean's TD error; quantiles have Huber's, categorical distributions the cross-entropy."""
    double: bool = False
    """The online network chooses the next action, the target network values it (van Hasselt et al. 2016)."""
    munchausen: bool = False
    """A softmax policy instead of the greedy one, a share of its log-probability as reward (Vieillard et al. 2020)."""
    munchausen_scale: Annotated[float, Ge(0), Le(1)] = 0.9
    """That share (alpha)."""
    munchausen_temperature: Annotated[float, Gt(0)] = 0.03
    """Of the softmax (tau)."""
    munchausen_floor: Annotated[float, Le(0)] = -1.0
    """The scaled log-probability is clipped to no less (l0)."""
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
    """Random actions last a zeta-distributed number of steps, with this exponent (Dabney et al. 2021); none: one."""


def check_parts(config: DQNConfig, replay: ReplayConfig) -> None:
    """UserError, naming both, where two parts exclude each other or one lacks what it needs."""
    support, epsilon, kind = config.support, config.epsilon, config.distribution
    noisy, munchausen = config.noisy, config.munchausen
    wrong = [
        (munchausen and config.double, "agent.munchausen with agent.double: its target has a policy of its own"),
        (
            munchausen and replay.n_step > 1,
            f"agent.munchausen with replay.n_step = {replay.n_step}: its reward is one step's",
        ),
        (
            noisy and max(epsilon.start, epsilon.end) > 0,
            "agent.noisy with agent.epsilon above 0: the noise explores; --agent.epsilon 0",
        ),
        (noisy and config.explore_power is not None, "agent.noisy with agent.explore_power: the noise explores"),
        (
            kind == "categorical" and support is None,
            "agent.distribution = 'categorical' without agent.support: it needs the lowest and highest return, e.g. "
            "--agent.support -10 10",
        ),
        (
            support is not None and not support[0] < support[1],
            f"agent.support = {support}: the lowest return first, then a higher one",
        ),
        (
            config.loss == "mse" and "quantile" in kind,
            f"agent.loss = 'mse' with agent.distribution = '{kind}': quantiles have Huber's",
        ),
    ]
    refuse(wrong)
