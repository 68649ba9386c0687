"""One process at a time on a run: a lock that dies with its process, and a generation that unmasks a second writer."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qladder.envs.errors import LostLockError, StorageError, UserError
from qladder.runners.progress import say

NAME = ".lock"
CLAIM = "QLADDER_CLAIM"
"""The environment variable by which a suite hands the file of its claim on a run to the run's process."""
LENGTH = 120  # bytes of the file, always, so that it is never half written


class RunLock:
    """Held from its construction to the end of its context; its file tells generation, pid and host.

    The kernel frees it with the process, however that ends. Where a file system does not share locks between machines,
    the generation tells, one more each time: whoever finds another one than its own must write no more.

    Raises:
        UserError: another process holds it.
        StorageError: the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise
        _HELD.add(self._file)

    def check(self) -> None:
        """LostLockError where another process has started on the run since; before anything is committed."""
        found, pid, host = _read(self._path)
        if found != self.generation:
            raise LostLockError(f"{self._folder}: process {pid} on {host} has taken this run over; nothing written")

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *exception: object) -> None:
        _HELD.discard(self._file)
        os.close(self._file)

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{_at_work(self._folder)}, or one verifies it; --name starts another") from None
        except OSError as error:
            say(f"{self._path}: this file system knows no locks ({error.strerror}); two processes would notice late")
        self.generation = _read(self._path)[0] + 1
        line = f"{self.generation} {os.getpid()} {socket.gethostname()[:80]}".ljust(LENGTH - 1) + "\n"
        try:
            os.pwrite(self._file, line.encode(), 0)
            os.fsync(self._file)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from error


@contextmanager
def unused(folder: Path) -> Iterator[str]:
    """While entered, nobody goes on with the run; gives what is known of its lock. Writes nothing.

    Raises:
        UserError: a process is at work on it.
    """
    path = folder / NAME
    if not path.exists():
        yield "never taken"
        return
    with path.open("rb") as file:
        says = "free"
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(_at_work(folder)) from None
        except OSError as error:
            says = f"this file system knows no locks ({error.strerror})"
        yield says


def _at_work(folder: Path) -> str:
    _, pid, host = _read(folder / NAME)
    return f"{folder}: process {pid} on {host} is at work on this run"


def _read(path: Path) -> tuple[int, str, str]:
    words = path.read_text(encoding="utf-8").split() if path.exists() else []
    return (int(words[0]), words[1], words[2]) if len(words) == 3 and words[0].isdigit() else (0, "?", "?")


_HELD: set[int] = set()  # file descriptors of this process's locks


def hold_claim() -> None:
    """Keeps the claim that was handed down until this process ends, and from what it starts."""
    file = os.environ.pop(CLAIM, "")
    if file.isdecimal() and os.path.exists(f"/proc/self/fd/{file}"):
        os.set_inheritable(int(file), False)
        _HELD.add(int(file))


def _let_go() -> None:
    """In a child that was forked, say by an environment: else it would hold the lock when its parent is dead."""
    for file in _HELD:
        os.close(file)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)
