"""Who calls whom, and what is written down. From Python: `from qladder.runners import train, load`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qladder.runners.loading import evaluate, load
    from qladder.runners.training import train

__all__ = ["evaluate", "load", "train"]
_HOME = {"evaluate": "loading", "load": "loading", "train": "training"}


def __getattr__(name: str) -> Any:
    """Imports on demand, so that `qladder --help` needs neither torch nor gymnasium."""
    if name not in _HOME:
        raise AttributeError(f"module 'qladder.runners' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"qladder.runners.{_HOME[name]}"), name)
    globals()[name] = value
    return value
