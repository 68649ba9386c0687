"""The loss of value learning as pure functions: one value per sample."""

from __future__ import annotations

from torch import Tensor, nn


def q_target(reward: Tensor, discount: Tensor, next_q: Tensor) -> Tensor:
    """Watkins' (1989) target `reward + discount * max_a next_q`: `[B], [B], [B, A] -> [B]`."""
    return reward + discount * next_q.amax(1)


def td_loss(q: Tensor, action: Tensor, target: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Loss and TD error `target - q[action]`, both `[B]`; `kind` is `huber` (delta 1) or `mse` (half the square)."""
    td = target - q.gather(1, action[:, None]).squeeze(1)
    if kind == "huber":
        return nn.functional.huber_loss(td, td.new_zeros(()).expand_as(td), reduction="none"), td
    return td.square() / 2, td
