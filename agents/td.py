"""What the next state is worth: the policy that it is valued by, and what that policy adds to the reward."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy(q: Tensor) -> Tensor:
    """The policy `[B, A]` that takes the best of `q [B, A]`, the first of equals: Watkins' (1989) target."""
    return torch.zeros_like(q).scatter_(1, q.argmax(1, keepdim=True), 1.0)


def softmax(q: Tensor, temperature: float) -> Tensor:
    """The policy `[B, A]` in proportion to `exp(q / temperature)`."""
    return (q / temperature).softmax(1)


def log_policy(q: Tensor, action: Tensor, temperature: float) -> Tensor:
    """`temperature * log pi(action)` of the softmax policy, `[B]`, never above 0."""
    return temperature * of_action((q / temperature).log_softmax(1), action)


def entropy(q: Tensor, temperature: float) -> Tensor:
    """`temperature` times the entropy of the softmax policy, `[B]`."""
    log_pi = (q / temperature).log_softmax(1)
    return -temperature * (log_pi.exp() * log_pi).sum(1)


def munchausen_reward(
    reward: Tensor,
    discount: Tensor,
    q: Tensor,
    action: Tensor,
    next_q: Tensor,
    *,
    scale: float,
    temperature: float,
    floor: float,
) -> Tensor:
    """The reward `[B]` with what Munchausen's target has besides `discount * sum_a pi(a) next_q[a]`.

    `r + scale * clip(tau log pi(a|s), floor, 0) + discount * tau H(pi(.|s'))` (Vieillard et al. 2020, eq. 1); both
    policies are the target network's.
    """
    told = log_policy(q, action, temperature).clamp(floor, 0)
    return reward + scale * told + discount * entropy(next_q, temperature)


def of_action(out: Tensor, action: Tensor) -> Tensor:
    """The entries of the actions `[B]` in `out [B, A, ...]`: `[B, ...]`."""
    return out[torch.arange(len(out), device=out.device), action]
