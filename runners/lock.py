"""One process at a time on a run: a lock that dies with its process, and a generation that unmasks a second writer."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from qladder.envs.errors import LostLockError, UserError

NAME = ".lock"


class RunLock:
    """Held from its construction to the end of its context; its file tells generation, pid and host.

    The kernel frees it with the process, however that ends. Where a file system does not share locks between machines,
    the generation tells, one more each time: whoever finds another one than its own must write no more.

    Raises:
        UserError: another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _, pid, host = self._read()
            self._file.close()
            raise UserError(
                f"{folder}: process {pid} on {host} is at work on this run; --name starts another"
            ) from None
        self.generation = self._read()[0] + 1
        self._file.truncate(0)
        self._file.write(f"{self.generation} {os.getpid()} {socket.gethostname()}\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def check(self) -> None:
        """LostLockError where another process has started on the run since; before anything is committed."""
        found, pid, host = self._read()
        if found != self.generation:
            raise LostLockError(
                f"{self._path.parent}: process {pid} on {host} has taken this run over; nothing written"
            )

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _read(self) -> tuple[int, str, str]:
        words = self._path.read_text(encoding="utf-8").split() if self._path.exists() else []
        return (int(words[0]), words[1], words[2]) if len(words) == 3 and words[0].isdigit() else (0, "?", "?")
