"""The settings of DQN, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from qladder.agents.schedules import Probability, Schedule
from qladder.replay.frames import ReplayConfig


@dataclass(frozen=True)
class DQNConfig:
    """Deep Q-network (Mnih et al. 2015)."""

    replay: ClassVar[type | None] = ReplayConfig

    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    network: Literal["auto", "mlp", "small-cnn", "nature-cnn"] = "auto"
    """`auto`: by the observations (pictures or vectors)."""
    scale_inputs: bool = False
    """Bounded dimensions of a vector are scaled to [-1, 1] by the environment's bounds."""
    pixel_mean: Annotated[int, Ge(0), Le(255)] = 0
    """Taken off every pixel before the division by 255; the background's grey keeps filters from dying on it."""
    init: Literal["fan-in", "he"] = "fan-in"
    """Weights at the start: `fan-in` uniform within 1 / sqrt(inputs), torch's default; `he` as large as keeps the
    signal's size through ReLUs (He et al. 2015), biases 0."""
    learner: Literal["auto", "eager", "cpu-bf16", "cuda-graph"] = "auto"
    """Arithmetic of the updates; auto: the fastest that the machine can do. `cpu-bf16` is for the Nature CNN,
    `cuda-graph` for a GPU and Adam."""
    hidden: tuple[Annotated[int, Gt(0)], ...] = (128, 128)
    """Widths of the fully connected layers."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """`rmsprop` is the paper's: centred, decay 0.95, epsilon (there 0.01) inside the root."""
    learning_rate: Schedule = Schedule(1e-3, 1e-3, 0, "updates")  # noqa: RUF009 (frozen)
    optimizer_eps: Annotated[float, Gt(0)] = 1e-8
    loss: Literal["huber", "mse"] = "huber"
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
