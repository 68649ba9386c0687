"""Whether actions that were taken again led to the same place."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from qladder.envs.errors import EnvironmentFaultError


def fingerprint(*values: Any) -> str:
    """SHA-256 of arrays or numbers."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def check_same(id: str, what: str, actions: int, found: str, expected: str) -> None:
    """EnvironmentFaultError unless the fingerprints agree."""
    if found != expected:
        raise EnvironmentFaultError(
            f"{id}: the {actions:,} actions that {what} took led elsewhere when they were taken again: it is not "
            "deterministic, or not the environment that it was"
        )
