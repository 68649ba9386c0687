"""What ends a run by name: what the user typed, what an environment did, and learning that left the finite numbers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LONGEST = 1_000  # characters of what is told
OUT_OF_MEMORY = re.compile(r"out of memory|bad_alloc|ALLOC_FAILED|[Tt]ried to allocate|can't allocate|overflowed with")


class ToldError(Exception):
    """Ends a run with one line, in which whatever cannot be printed is escaped and what is endless cut."""

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message[: LONGEST + 1])
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]}...")


class UserError(ToldError):
    """Bad input, told in one line: the field, the value, what is allowed. The command line exits with status 2."""


class EnvironmentFaultError(ToldError):
    """An environment raised or returned something that cannot be learnt from. Exit status 1."""


class HangError(BaseException):
    """An environment does not come back; no `Exception`, so that its own code does not handle it."""


class DivergedError(ToldError):
    """A loss or a weight is not finite any more. Exit status 1."""


class FaultyUpdateError(ToldError):
    """An agent's update is none: wrong shapes, gradients where there must be none, or the like. Exit status 1."""


class LostLockError(ToldError):
    """Another process has taken a run over. Exit status 1."""


class StorageError(ToldError):
    """A file of a run cannot be written: a full disk, a limit, a folder that is gone. Exit status 1."""


def first_line(error: BaseException) -> str:
    """Of what it says."""
    return (str(error).strip().splitlines() or [""])[0]


def out_of_memory(error: Exception) -> bool:
    """Whether this is Python's, numpy's or torch's error for memory that cannot be had."""
    return isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest allowed name, or nothing where none is close."""
    lowered = {a.lower(): a for a in allowed}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def refuse(wrong: Iterable[tuple[bool, str]]) -> None:
    """UserError with the first message whose condition holds."""
    for is_wrong, message in wrong:
        if is_wrong:
            raise UserError(message)
