"""One gradient step, how a target network follows, and what ends a run whose loss has left the finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from qladder.envs.errors import DivergedError


def gradient_step(
    loss: Tensor, params: Iterable[Tensor], optimizer: torch.optim.Optimizer, max_norm: float | None
) -> None:
    """Moves `params` by the gradient of a scalar `loss`; one longer than `max_norm` is scaled down to it."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(params, max_norm, foreach=True)
    optimizer.step()


@torch.no_grad()
def update_target(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Moves the target network's parameters by `tau` towards the online network's; 1 is a copy."""
    theirs: list[Tensor] = list(online.parameters())
    own: list[Tensor] = list(target.parameters())
    if tau == 1:
        torch._foreach_copy_(own, theirs)
    else:
        torch._foreach_lerp_(own, theirs, tau)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate from here on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def check_finite(loss: Tensor, updates: int, ranges: Mapping[str, Tensor]) -> None:
    """DivergedError, which tells the `ranges` in its batch, where the loss is not finite; on a GPU it waits for it."""
    if not math.isfinite(loss.item()):
        told = ", ".join(f"{name} {t.min():.4g} to {t.max():.4g}" for name, t in ranges.items())
        raise DivergedError(f"the loss is {loss.item()} at update {updates}; in its batch: {told}")
