"""Who calls whom, and what is written down. What is meant to be called from Python is imported from here."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qladder.runners.loading import environment, evaluate, load
    from qladder.runners.runs import find_runs, read_metrics
    from qladder.runners.training import train

__all__ = ["environment", "evaluate", "find_runs", "load", "read_metrics", "train"]
_HOME = {
    "environment": "loading",
    "evaluate": "loading",
    "find_runs": "runs",
    "load": "loading",
    "read_metrics": "runs",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    """Imports on demand, so that `qladder --help` needs neither torch nor gymnasium."""
    if name not in _HOME:
        raise AttributeError(f"module 'qladder.runners' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"qladder.runners.{_HOME[name]}"), name)
    globals()[name] = value
    return value
