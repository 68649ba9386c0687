"""How to get what qladder can do without."""

from __future__ import annotations


def install(extra: str) -> str:
    """For the end of a message."""
    return f"in qladder's folder `make extras EXTRAS={extra}`, elsewhere python -m pip install 'qladder[{extra}]'"
