"""The one module that knows gamma: one-step, n-step and lambda returns."""

from __future__ import annotations

from typing import Any

import numpy as np


def one_step(discount: float, gamma: float) -> float:
    """The factor on the value of the next observation: gamma, or 0 where nothing is to be bootstrapped."""
    return gamma * discount


def trace(discount: float, gamma: float, trace_decay: float) -> float:
    """The factor by which eligibility fades over one step: gamma * lambda, or 0 where nothing is to be bootstrapped.

    Each TD error, times what is left of the eligibility of those before it, adds up to lambda returns (Sutton 1988).
    """
    return gamma * discount * trace_decay


def n_step(reward: Any, discount: Any, last: Any, gamma: float) -> tuple[Any, Any, Any]:
    """Folds windows `[B, n]` of consecutive steps into one transition each (Sutton 1988; Watkins 1989, ch. 7).

    A window stops after its first `last`. A discount of 0 inside it (a lost life) cuts all that follows, though the
    sequence goes on.

    Returns:
        The folded reward `[B]` float32; gamma**k times the product of the discounts `[B]` float32, to be put on the
        value of what the window led to; and its length k `[B]`, at least 1.
    """
    steps = last.shape[1]
    length = np.where(last.any(1), last.argmax(1) + 1, steps)
    inside = np.arange(steps) < length[:, None]
    factor = np.cumprod(np.where(inside, gamma * discount.astype(np.float64), 1.0), axis=1)
    before = np.concatenate([np.ones((len(factor), 1)), factor[:, :-1]], axis=1)
    folded = (reward * before * inside).sum(1)
    return folded.astype(np.float32), factor[:, -1].astype(np.float32), length


def lambda_returns(reward: Any, discount: Any, last: Any, next_value: Any, *, gamma: float, trace_decay: float) -> Any:
    """What each of T consecutive steps of N environments came to: `[T, N]` float32, of arguments of that shape.

    `G[t] = r[t] + gamma d[t] ((1 - lambda) V[t] + lambda G[t + 1])`, `V` being the value of what the step led to
    (Watkins 1989, ch. 7; Gallici et al. 2024, alg. 1). Where the sequence stops, at a `last` or at T, `V[t]` stands for
    `G[t + 1]` too. A discount of 0 cuts all that follows, though the sequence goes on.
    """
    returns = np.empty(reward.shape, np.float64)
    after = next_value[-1]
    for t in reversed(range(len(reward))):
        after = np.where(last[t], next_value[t], after)
        returns[t] = reward[t] + gamma * discount[t] * ((1 - trace_decay) * next_value[t] + trace_decay * after)
        after = returns[t]
    return returns.astype(np.float32)
