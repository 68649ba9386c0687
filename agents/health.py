"""Signs of whether a network learns, goes dead or drifts, read off one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from qladder.agents.agent import Metrics

BATCH = 64  # transitions; the rank of a layer's features on it is at most that
DORMANT = 0.025  # of the layer's mean activation, as in the paper
RANK_DELTA = 0.01  # of the singular values' sum, as in the paper


def errors(td: Tensor) -> Metrics:
    """Where the TD errors `[B]` lie: their 5th, 50th and 95th percentiles."""
    low, median, high = td.double().quantile(td.new_tensor((0.05, 0.5, 0.95), dtype=torch.float64))
    return {"health/td_error_p05": low, "health/td_error_p50": median, "health/td_error_p95": high}


def hidden_layers(network: nn.Module, last: nn.Module, see: Callable[[], object]) -> Metrics:
    """How alive the hidden layers are while the network sees what it is shown by `see`; `last` is its last layer."""
    hidden: list[Tensor] = []
    features: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _, __, out: hidden.append(out)) for m in network.modules() if type(m) is nn.ReLU
    ]
    hooks.append(last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0])))
    try:
        with torch.no_grad():
            see()
    finally:
        for hook in hooks:
            hook.remove()
    alive = {"health/dormant": dormant(hidden)} if hidden else {}
    return {**alive, "health/rank": effective_rank(features[0])}


def largest(q: Tensor, reward: Tensor) -> Metrics:
    """The largest action value and the largest reward, either sign, of any shape."""
    return {"health/largest_q": q.detach().abs().max(), "health/largest_reward": reward.abs().max()}


def dormant(layers: Iterable[Tensor]) -> float:
    """The share of units that give at most 0.025 of their layer's mean (Sokar et al. 2023, definition 3.1).

    Of each layer `[B, units, ...]` after its ReLU; a channel of pictures is one unit. A layer that gives nothing at all
    is dormant as a whole.
    """
    asleep = units = 0
    for out in layers:
        activity = out.abs().transpose(0, 1).flatten(1).mean(1)
        asleep += int((activity <= DORMANT * activity.mean()).sum())
        units += len(activity)
    return asleep / units


def effective_rank(features: Tensor) -> int:
    """How many singular values make up 99 % of the sum of all, for features `[B, W]` (Kumar et al. 2021, section 3)."""
    values = torch.linalg.svdvals(features.float()).double()
    return int((values.cumsum(0) < (1 - RANK_DELTA) * values.sum()).sum()) + 1


def gradient_norm(loss: Tensor, params: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of the gradient of a scalar `loss`, before anything scales it down."""
    grads = torch.autograd.grad(loss, [p for p in params if p.requires_grad], allow_unused=True)
    return torch.stack([g.square().sum() for g in grads if g is not None]).sum().sqrt()
