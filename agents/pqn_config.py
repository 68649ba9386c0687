"""The settings of PQN, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from qladder.agents.network_config import NetworkConfig
from qladder.agents.schedules import Probability, Schedule
from qladder.envs.errors import refuse


@dataclass(frozen=True)
class PQNConfig(NetworkConfig):
    """Parallelised Q-network (Gallici et al. 2024).

    `run.update_every` is the agent steps of one rollout, over all environments, and `run.updates` the updates that it
    gives: as many minibatches as that, divided by the epochs.
    """

    replay: ClassVar[type | None] = None

    norm: Literal["none", "layer"] = "layer"
    """`layer`: layer norm (Ba et al. 2016) after each convolution and fully connected layer, but the last, before its
    ReLU. It stands in for the target network."""
    gamma: Annotated[float, Ge(0), Le(1)] = 0.99
    """Discount of one agent step."""
    trace_decay: Annotated[float, Ge(0), Le(1)] = 0.65
    """Lambda: 0 learns from one step; 1, without bootstrapping, from the rewards to the rollout's end."""
    epochs: Annotated[int, Gt(0)] = 2
    """Times that a rollout is gone through, each in an order of its own."""
    optimizer: Literal["radam", "adam"] = "radam"
    learning_rate: Schedule = Schedule(2.5e-4, 2.5e-4, 0, "updates")  # noqa: RUF009 (frozen)
    optimizer_eps: Annotated[float, Gt(0)] = 1e-8
    loss: Literal["huber", "mse"] = "mse"
    max_grad_norm: Annotated[float, Gt(0)] | None = 10.0
    """Longer gradients are scaled down to this norm."""
    epsilon: Probability = Probability(1.0, 0.01, 10_000)  # noqa: RUF009 (frozen)
    """Probability of a random action while exploring."""
    explore_power: Annotated[float, Gt(1)] | None = None
    """ez-greedy (Dabney et al. 2021): random actions last a zeta-distributed number of steps, with this exponent; none:
    one step."""

    def check_run(self, run: Any, num_envs: int) -> None:
        """UserError where the run's ratio of updates to agent steps does not make whole rollouts and epochs."""
        every, updates = run.update_every, run.updates
        refuse(
            [
                (
                    run.learning_starts > 0,
                    f"run.learning_starts = {run.learning_starts} with pqn: it has no replay to fill; 0 works",
                ),
                (
                    every % num_envs != 0,
                    f"run.update_every = {every} with env.num_envs = {num_envs}: a rollout is the same number of steps "
                    "of each environment",
                ),
                (
                    updates % self.epochs != 0,
                    f"run.updates = {updates} with agent.epochs = {self.epochs}: each epoch takes as many",
                ),
                (
                    updates > every * self.epochs,
                    f"run.updates = {updates} with run.update_every = {every}: not a step for each minibatch",
                ),
            ]
        )


def check_parts(config: PQNConfig) -> None:
    """UserError, naming both, for parts of the network that PQN has no loss or no use for."""
    refuse(
        [
            (config.mean_image, "agent.mean_image with pqn: it has no replay to take it from; agent.pixel_mean works"),
            (config.noisy, "agent.noisy with pqn: it explores by agent.epsilon"),
            (
                config.distribution != "mean",
                f"agent.distribution = '{config.distribution}' with pqn: lambda returns are of means",
            ),
        ]
    )
