"""One step down a loss, how a target network follows, and what is said when a loss leaves the finite numbers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qladder.envs.errors import DivergedError


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], max_grad_norm: float | None
) -> None:
    """A step of the optimizer by the gradients of a scalar, scaled down where they are longer than `max_grad_norm`."""
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm, foreach=True)
    optimizer.step()


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Moves the target network's parameters by `tau` towards the online network's; 1 is a copy."""
    theirs: list[Tensor] = list(online.parameters())
    own: list[Tensor] = list(target.parameters())
    if tau == 1:
        torch._foreach_copy_(own, theirs)
    else:
        torch._foreach_lerp_(own, theirs, tau)


def check_loss(loss: Tensor, update: int, **batch: Tensor) -> None:
    """DivergedError, with the ranges of what is named of its batch, where the loss is not finite."""
    if not loss.isfinite():
        told = ", ".join(f"{name} {t.min():.4g} to {t.max():.4g}" for name, t in batch.items())
        raise DivergedError(f"the loss is {loss.item()} at update {update}; in its batch: {told}")
