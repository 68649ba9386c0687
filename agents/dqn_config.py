"""The settings of DQN, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from qladder.agents.learning_config import LearningConfig
from qladder.envs.errors import refuse
from qladder.replay.frames import ReplayConfig


@dataclass(frozen=True)
class DQNConfig(LearningConfig):
    """Deep Q-network (Mnih et al. 2015) and its relatives."""

    replay: ClassVar[type | None] = ReplayConfig

    learner: Literal["auto", "eager", "cpu-bf16", "cuda-graph"] = "auto"
    """Arithmetic of the updates; auto: `cpu-bf16` where there are instructions for it and the Nature CNN, else `eager`.
    `cuda-graph`: for a GPU and Adam, without noise, implicit quantiles, or a prioritised or compressed replay."""
    huber_delta: Annotated[float, Gt(0)] = 1.0
    """Where Huber's loss turns from square to linear; of quantiles, kappa. For returns far above 1."""
    munchausen: bool = False
    """A softmax policy instead of the greedy one, a share of its log-probability as reward (Vieillard et al. 2020)."""
    munchausen_scale: Annotated[float, Ge(0), Le(1)] = 0.9
    """That share (alpha)."""
    munchausen_temperature: Annotated[float, Gt(0)] = 0.03
    """Of the softmax (tau)."""
    munchausen_floor: Annotated[float, Le(0)] = -1.0
    """The scaled log-probability is clipped to no less (l0)."""
    stress: Literal[
        "none",
        "random-noise",
        "directed-noise",
        "stepped-noise",
        "prune-smallest",
        "prune-random",
        "low-rank",
        "zero-pixels",
        "predict-pixels",
    ] = "none"
    """Done to the network where it is evaluated, never while it learns: noise in its pixels, by coins or
    directed against its own choice (at once, or found in five steps), or weights that are taken away or predicted
    (agents/stress.py)."""
    stress_size: Annotated[float, Ge(0), Le(1)] = 0.0
    """Of the noise, as a share of a pixel's full scale; or the share of the weights."""


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
            "agent.distribution = 'categorical' without agent.support: it needs the lowest and highest discounted "
            "return, for CartPole-v1 --agent.support 0 100",
        ),
        (
            support is not None and not support[0] < support[1],
            f"agent.support = {support}: the lowest return first, then a higher one",
        ),
        (
            (config.stress == "none") != (config.stress_size == 0),
            f"agent.stress = '{config.stress}' with agent.stress_size = {config.stress_size:g}: both or neither",
        ),
        (
            config.huber_delta != 1 and kind == "categorical",
            f"agent.huber_delta = {config.huber_delta:g} with agent.distribution = 'categorical': its loss is another",
        ),
        (
            config.huber_delta != 1 and kind == "mean" and config.loss == "mse",
            f"agent.huber_delta = {config.huber_delta:g} with agent.loss = 'mse': squares have no bend",
        ),
        (
            config.loss == "mse" and "quantile" in kind,
            f"agent.loss = 'mse' with agent.distribution = '{kind}': quantiles have Huber's",
        ),
    ]
    refuse(wrong)
