"""Whether an agent can play an environment, said in one line with what can."""

from __future__ import annotations

from collections.abc import Sequence

from qladder.agents.agent import EnvSpec
from qladder.envs.errors import UserError


def finite_actions(agent: str, spec: EnvSpec) -> int:
    """The number of actions; UserError where they are not a finite set."""
    if spec.num_actions is None:
        raise UserError(
            f"{agent} cannot play {spec.id}: its actions are not a finite set, which every value-based agent needs; "
            "a wrapper that discretises them can help (--env.wrappers module:function)"
        )
    return spec.num_actions


def plain_values(agent: str, spec: EnvSpec) -> None:
    """UserError unless the observations are numbered states or a short vector."""
    if spec.batched or (spec.num_states is None and len(spec.obs_shape) != 1):
        shape = "x".join(map(str, spec.obs_shape))
        raise UserError(f"{agent} cannot play {spec.id}: its observations are {shape} arrays; dqn can")


def bounds(
    spec: EnvSpec, low: Sequence[float] | None, high: Sequence[float] | None, reach: float
) -> tuple[Sequence[float], Sequence[float]]:
    """The bounds of each dimension: those given, else the environment's, else (beyond 1e3) `-reach` and `reach`."""
    assert spec.low is not None
    assert spec.high is not None
    wide = [not (lo > -1e3 and hi < 1e3) for lo, hi in zip(spec.low, spec.high, strict=True)]
    own_low = [-reach if w else lo for w, lo in zip(wide, spec.low, strict=True)]
    own_high = [reach if w else hi for w, hi in zip(wide, spec.high, strict=True)]
    return own_low if low is None else low, own_high if high is None else high
