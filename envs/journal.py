"""Whether actions that were taken again led to the same place."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from qladder.envs.errors import EnvironmentFaultError


def fingerprint(*values: Any) -> str:
    """SHA-256 of arrays or numbers, which may be larger than arrays hold."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(str(value).encode() if isinstance(value, int) else np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def check_same(id: str, what: str, actions: int, found: str, expected: str) -> None:
    """EnvironmentFaultError unless the fingerprints agree."""
    if found != expected:
        raise EnvironmentFaultError(
            f"{id}: the {actions:,} actions that {what} took led elsewhere when they were taken again: it is not "
            "deterministic, or not the environment that it was"
        )


def check_actions(id: str, actions: Any, num_actions: int, lengths: Any = None) -> None:
    """EnvironmentFaultError unless these are actions, as many as the `lengths` say in all."""
    good = actions.ndim == 1 and actions.dtype.kind in "iu" and ((actions >= 0) & (actions < num_actions)).all()
    if lengths is not None:
        good = good and lengths.dtype.kind in "iu" and (lengths >= 0).all() and int(lengths.sum()) == len(actions)
    if not good:
        raise EnvironmentFaultError(f"{id}: the actions to take again are none of this environment")
