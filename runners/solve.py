"""The exact optimum of a finite problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qladder.envs.errors import UserError
from qladder.envs.mdp import optimal_values
from qladder.runners.config import resolve
from qladder.runners.evaluation import truth
from qladder.runners.shipped import families


def solve(env: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Optimal returns (undiscounted), the optimal values of all states and the greedy policy.

    Raises:
        UserError: the environment's model is not known.
    """
    config = resolve("random", env, settings or {})
    known = truth(config)
    if known is None:
        ids = ", ".join(families()["toy-text"]["ids"])
        raise UserError(f"solve: the model of '{env}' is not known; those of {ids} are")
    q = optimal_values(known.mdp)[: known.mdp.num_observations]
    return {
        "env": env,
        "states": known.mdp.num_observations,
        "actions": known.mdp.num_actions,
        "max_episode_steps": known.horizon,
        "optimal_return": known.optimal_return,
        "optimal_return_in_limit": known.optimal_return_in_limit,
        "values": q.max(1).tolist(),
        "policy": q.argmax(1).tolist(),
    }
