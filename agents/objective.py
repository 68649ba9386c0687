"""What DQN and its relatives minimise: how far the online network is from a target that the frozen one sets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from qladder.agents.dqn_config import DQNConfig
from qladder.agents.networks import QNetwork
from qladder.agents.td import greedy, munchausen_reward, of_action, softmax
from qladder.agents.values import Target, make_values, midpoints

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class Transitions(NamedTuple):
    """What an update learns from, on the network's device."""

    obs: Tensor  # [B, ...]
    action: Tensor  # [B] int64
    reward: Tensor  # [B], folded over n steps
    discount: Tensor  # [B], gamma to the number of steps; 0 where nothing is to be bootstrapped
    next_obs: Tensor  # [B, ...]
    weight: Tensor  # [B], importance weights; 1 for uniform replay


class Learned(NamedTuple):
    """What an update computed; in a graph, until the next one."""

    loss: Tensor  # [] mean over the batch, weighted
    q: Tensor  # [B, A]
    td: Tensor  # [B]
    target: Tensor  # [B, K]
    reward: Tensor  # [B]
    priority: Tensor  # [B]
    overflow: Tensor | None  # share of the targets' probability that the support cannot tell
    more: Mapping[str, Tensor] = NOTHING  # tag -> [], what else is to be logged

    @property
    def ranges(self) -> dict[str, Tensor]:
        """What to tell where the loss is not finite."""
        return {"reward": self.reward, "target": self.target, "Q": self.q.detach()}

    def detached(self) -> Learned:
        """Without what gradients would flow back through, which in a graph would be held with it."""
        numbers = {name: getattr(self, name).detach() for name in ("loss", "q", "td", "priority")}
        return self._replace(**numbers)


class Objective:
    """The loss of transitions `[B]`, by Watkins' target or what its relatives put in its place."""

    def __init__(
        self, config: DQNConfig, online: QNetwork, target: QNetwork, draws: torch.Generator, device: torch.device
    ) -> None:
        """`draws`: where random fractions of implicit quantiles come from."""
        self._config, self._online, self._target = config, online, target
        self._values = make_values(config, device)
        self._draws, self._device = draws, device

    def __call__(self, batch: Transitions) -> Learned:
        """What an update would compute; nothing moves."""
        return self.loss(batch, *self.target(batch))

    @torch.no_grad()
    def target(self, batch: Transitions) -> Target:
        """The reward and the discounted return of the frozen network's best next action.

        Double: of the one that is the online network's best (van Hasselt et al. 2016). Munchausen: of a soft policy's,
        with a share of its log-probability as reward (Vieillard et al. 2020).
        """
        config = self._config
        obs, action, reward, discount, next_obs, _ = batch
        fractions = self._fractions(len(obs))
        features = self._target.trunk(next_obs)
        out = self._target.head(features, fractions)
        if config.double:
            next_q = self.q(self._online, next_obs)
        else:
            next_q = self._values.mean(out) if fractions is None else self._q_of(self._target, features)
        if config.munchausen:
            policy = softmax(next_q, config.munchausen_temperature)
            reward = munchausen_reward(
                reward,
                discount,
                self.q(self._target, obs),
                action,
                next_q,
                scale=config.munchausen_scale,
                temperature=config.munchausen_temperature,
                floor=config.munchausen_floor,
            )
        else:
            policy = greedy(next_q)
        return self._values.target(out, policy, reward, discount)

    def loss(self, batch: Transitions, target: Tensor, overflow: Tensor | None) -> Learned:
        """How far the online network is from targets `[B, K]`, weighted and averaged; `overflow` is passed on."""
        obs, action, reward, _, _, weight = batch
        fractions = self._fractions(len(obs))
        out = self._online(obs, fractions)
        loss, td, priority = self._values.loss(of_action(out, action), target, fractions)
        mean_loss = (weight * loss).mean()
        return Learned(mean_loss, self._values.mean(out), td, target, reward, priority, overflow)

    def q(self, network: QNetwork, obs: Tensor) -> Tensor:
        """Action values `[B, A]`."""
        return self._q_of(network, network.trunk(obs))

    def _q_of(self, network: QNetwork, features: Tensor) -> Tensor:
        """Action values `[B, A]` of features; of implicit quantiles, the mean at evenly spread fractions."""
        fractions = None
        if self._config.distribution == "implicit-quantile":
            fractions = midpoints(self._config.act_fractions, self._device)[None]
        return self._values.mean(network.head(features, fractions))

    def _fractions(self, batch: int) -> Tensor | None:
        """Random ones `[B, K]` for an update of implicit quantiles."""
        if self._config.distribution != "implicit-quantile":
            return None
        return torch.rand(batch, self._config.atoms, generator=self._draws).to(self._device)
