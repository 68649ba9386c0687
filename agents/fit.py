"""Whether an agent can play an environment, said in one line with what can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qladder.agents.agent import EnvSpec
from qladder.envs.errors import UserError

BEYOND = 1e3  # a bound as far as this is none: nobody gets there


def finite_actions(agent: str, spec: EnvSpec) -> int:
    """The number of actions; UserError where they are not a finite set."""
    if spec.num_actions is None:
        raise UserError(
            f"{agent} cannot play {spec.id}: its actions are not a finite set, which every value-based agent needs; "
            "a wrapper that discretises them can help (--env.wrappers module:function)"
        )
    return spec.num_actions


def plain_values(agent: str, spec: EnvSpec) -> None:
    """UserError unless the observations are discrete states or a short vector."""
    if spec.batched or (spec.num_states is None and len(spec.obs_shape) != 1):
        raise UserError(f"{agent} cannot play {spec.id}: its observations are arrays {spec.obs_shape}; dqn can")


def bounds(
    spec: EnvSpec, low: Sequence[float] | None, high: Sequence[float] | None, reach: float
) -> tuple[Sequence[float], Sequence[float]]:
    """The bounds of each dimension: those given, else the environment's where they are within 1e3.

    Else they are `-reach` and `reach`, or 2 * `reach` away from the one side that the environment does give.

    Raises:
        UserError: another number of bounds than dimensions.
    """
    assert spec.low is not None
    assert spec.high is not None
    for name, given in (("low", low), ("high", high)):
        if given is not None and len(given) != len(spec.low):
            raise UserError(f"agent.{name} has {len(given)} values; {spec.id} observes {len(spec.low)}")
    own = [_side(lo, hi, reach) for lo, hi in zip(spec.low, spec.high, strict=True)]
    return [lo for lo, _ in own] if low is None else low, [hi for _, hi in own] if high is None else high


def _side(low: float, high: float, reach: float) -> tuple[float, float]:
    has_low, has_high = low > -BEYOND, high < BEYOND
    if has_low and has_high:
        return low, high
    if has_low or has_high:
        return (low, low + 2 * reach) if has_low else (high - 2 * reach, high)
    return -reach, reach


def fitting(array: Any, shape: tuple[int, ...]) -> Any:
    """An array of a saved state; ValueError where it is not of numbers in this shape."""
    if array.shape != shape or array.dtype.kind not in "iuf":
        raise ValueError(f"{array.dtype} {list(array.shape)} instead of numbers {list(shape)}")
    return array
