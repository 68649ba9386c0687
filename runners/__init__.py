"""Who calls whom, and what is written down. From Python: `from qladder.runners import train, load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qladder.runners.training import evaluate, load, train

__all__ = ["evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    """Imports on demand, so that `qladder --help` needs neither torch nor gymnasium."""
    if name in __all__:
        import importlib

        value = getattr(importlib.import_module("qladder.runners.training"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'qladder.runners' has no attribute '{name}'")
