"""What is learnt of an action's return: its mean, probabilities of fixed values, or quantiles; each with its loss."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from qladder.agents.dqn_config import DQNConfig


class Loss(NamedTuple):
    """One number per sample."""

    loss: Tensor  # [B]
    td: Tensor  # [B] target less prediction, of the means
    priority: Tensor  # [B] not negative; what a prioritised replay goes by


class Target(NamedTuple):
    """What a prediction is drawn to."""

    target: Tensor  # [B, K]
    overflow: Tensor | None  # share of the probability that is beyond a support, over the batch


class Values(Protocol):
    """How the K numbers that a network gives for an action are read and fitted."""

    def mean(self, out: Tensor) -> Tensor:
        """Action values `[B, A]` of a network's output `[B, A, K]`."""

    def target(self, out: Tensor, policy: Tensor, reward: Tensor, discount: Tensor) -> Target:
        """The target of `reward + discount * return`, from `out [B, A, K]` and `policy [B, A]` there."""

    def loss(self, out: Tensor, target: Tensor, fractions: Tensor | None) -> Loss:
        """Of the taken actions' `out [B, K]`; `fractions [B, K]` where quantiles are at random ones."""


class Mean:
    """The expected return, K = 1, by Huber's loss or half the squared error."""

    def __init__(self, kind: str, delta: float = 1.0) -> None:
        self._kind, self._delta = kind, delta

    def mean(self, out: Tensor) -> Tensor:
        return out[..., 0]

    def target(self, out: Tensor, policy: Tensor, reward: Tensor, discount: Tensor) -> Target:
        return Target((reward + discount * (policy * out[..., 0]).sum(1))[:, None], None)

    def loss(self, out: Tensor, target: Tensor, fractions: Tensor | None) -> Loss:
        td = (target - out)[:, 0]
        loss = huber(td, self._delta) if self._kind == "huber" else td.square() / 2
        return Loss(loss, td, td.abs())


class Categorical:
    """Probabilities of K values evenly spread over a support, by cross-entropy (C51, Bellemare et al. 2017)."""

    def __init__(self, support: tuple[float, float], atoms: int, device: torch.device) -> None:
        self.values = torch.linspace(*support, atoms, device=device)
        rounding = 1e-6 * (support[1] - support[0])
        self._lowest, self._highest = support[0] - rounding, support[1] + rounding

    def mean(self, out: Tensor) -> Tensor:
        return out.softmax(-1) @ self.values

    def target(self, out: Tensor, policy: Tensor, reward: Tensor, discount: Tensor) -> Target:
        mixed = (policy[..., None] * out.softmax(-1)).sum(1)
        values = reward[:, None] + discount[:, None] * self.values
        outside = (values < self._lowest) | (values > self._highest)
        return Target(project(mixed, values, self.values), (mixed * outside).sum(1).mean())

    def loss(self, out: Tensor, target: Tensor, fractions: Tensor | None) -> Loss:
        log_p = out.log_softmax(-1)
        loss = -(target * log_p).sum(-1)
        divergence = loss.detach() + torch.special.xlogy(target, target).sum(-1)
        return Loss(loss, (target - log_p.detach().exp()) @ self.values, divergence.clamp_min(0))


class Quantiles:
    """Quantiles at K fractions, by Huber's quantile regression (Dabney et al. 2018a, eq. 9-10; 2018b, eq. 3)."""

    def __init__(self, kappa: float = 1.0) -> None:
        self._kappa = kappa

    def mean(self, out: Tensor) -> Tensor:
        return out.mean(-1)

    def target(self, out: Tensor, policy: Tensor, reward: Tensor, discount: Tensor) -> Target:
        return Target(reward[:, None] + discount[:, None] * (policy[..., None] * out).sum(1), None)

    def loss(self, out: Tensor, target: Tensor, fractions: Tensor | None) -> Loss:
        if fractions is None:
            fractions = midpoints(out.shape[1], out.device).expand_as(out)
        td = target[:, None, :] - out[:, :, None]  # [B, K, K']
        weight = (fractions[:, :, None] - (td.detach() < 0).to(out.dtype)).abs()
        mean_td = target.mean(1) - out.detach().mean(1)
        loss = (weight * huber(td, self._kappa)).mean(2).sum(1) / self._kappa
        return Loss(loss, mean_td, mean_td.abs())


def make_values(config: DQNConfig, device: torch.device) -> Values:
    """What `config.distribution` names."""
    if config.distribution == "mean":
        return Mean(config.loss, config.huber_delta)
    if config.distribution == "categorical":
        assert config.support is not None
        return Categorical(config.support, config.atoms, device)
    return Quantiles(config.huber_delta)


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Half the square up to `delta`, linear beyond; of any shape."""
    return nn.functional.huber_loss(error, error.new_zeros(()).expand_as(error), reduction="none", delta=delta)


def midpoints(count: int, device: torch.device) -> Tensor:
    """The middles of `count` equal parts of [0, 1] (Dabney et al. 2018a, lemma 2)."""
    return (torch.arange(count, device=device) + 0.5) / count


def project(probability: Tensor, values: Tensor, support: Tensor) -> Tensor:
    """A distribution over `values [B, K]` as one over the evenly spaced `support [K']`: `[B, K']`.

    Each probability goes to the two neighbours in proportion to their nearness, what is beyond the support to its end
    (Bellemare et al. 2017, eq. 7). Nothing is scattered, which on a GPU would add in another order every time.
    """
    step = (support[-1] - support[0]) / (len(support) - 1)
    inside = values.clamp(support[0], support[-1]) / step
    nearness = (inside[:, None, :] - (support / step)[:, None]).abs_().neg_().add_(1).clamp_min_(0)  # [B, K', K]
    return nearness.mul_(probability[:, None, :]).sum(-1)
