"""What enters memory, what leaves it, and what a memory can do."""

from __future__ import annotations

from typing import Any, NamedTuple


class Step(NamedTuple):
    """One agent step of N environments, as the runner hands it to an agent (plain values where not batched)."""

    obs: Any  # [N, ...]
    action: Any  # [N]
    reward: Any  # [N] clipped already, where the protocol says so
    discount: Any  # [N] 0 where the episode terminated or a life was lost, else 1; gamma is not in it
    last: Any  # [N] bool, terminated or truncated
    next_obs: Any  # [N, ...] the true successor, never the reset frame
    extras: Any = None  # what this agent's `act` added


class Batch(NamedTuple):
    """Transitions to learn from; the target is `reward + discount * value(next_obs)`."""

    obs: Any  # [B, ...]
    action: Any  # [B] int64
    reward: Any  # [B] float32, folded over n steps
    discount: Any  # [B] float32, gamma**k times the steps' discounts; 0 where nothing is to be bootstrapped
    next_obs: Any  # [B, ...]
    weight: Any  # [B] float32, importance weights; 1 for uniform replay
    index: Any  # [B] int64, for `update`


class Picks(NamedTuple):
    """Drawn transitions whose observations are still in the memory."""

    slots: Any  # [2, B] or with stacks [2, B, S] int64: where the observations and their successors are
    blank: Any  # [2, B, S] bool: of a stack, what was before the episode; None without stacks
    action: Any  # [B] and so on, as in `Batch`
    reward: Any
    discount: Any
    weight: Any
    index: Any


class Versioned(dict[str, Any]):
    """Part of a state that seldom changes: `version`, `arrays`, and whether it has `settled`: will not change soon.

    Where the version is the one before, so are the arrays.
    """
