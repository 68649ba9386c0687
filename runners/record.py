"""What a run's folder tells of a process that was at work in it: how it began, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from qladder.envs.errors import EnvironmentFaultError, HangError, StorageError
from qladder.runners.config import Config
from qladder.runners.lock import RunLock
from qladder.runners.progress import say
from qladder.runners.run_folder import write_config, write_json
from qladder.runners.stop import StoppedError
from qladder.runners.watchdog import Watchdog


class Record:
    """A run's manifest from `begin` on; as a context it writes down how what goes on within has ended.

    That is `reason`, which is to be set within; a stop ends the context and is its own reason, an error is one too.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.reason = "failed"
        self._folder = folder
        self._lock: RunLock | None = None

    def begin(self, config: Config, lock: RunLock, *, done: bool = False) -> None:
        """Writes settings and manifest; the result of a shorter run is none of this one's, unless that is `done`."""
        self._lock = lock
        if not done:
            (self._folder / "summary.json").unlink(missing_ok=True)
        write_config(self._folder, config)
        write_json(self._folder / "manifest.json", self.manifest)

    def end_with(self, reason: str) -> None:
        """Writes down how the run ended, unless it had not begun: then what stands there is an earlier process's."""
        if self._lock is None:
            return
        self._lock.check()
        self.manifest.update(ended=time.strftime("%Y-%m-%dT%H:%M:%S%z"), exit_reason=reason)
        try:
            write_json(self._folder / "manifest.json", self.manifest)
        except StorageError as error:
            say(f"{error}; the manifest does not tell how the run ended: {reason}")

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        stopped = isinstance(error, StoppedError)
        if error is not None:
            self.reason = str(error) if stopped else f"failed: {type(error).__name__}: {error}"
        self.end_with(self.reason)
        return stopped


@contextmanager
def at_work(record: Record, folder: Path, hang_after: float) -> Iterator[RunLock]:
    """One process at a time on a run, which ends where its environment hangs for so many seconds.

    Raises:
        UserError: another process is at work on it.
        EnvironmentFaultError: the environment hung.
    """
    try:
        with RunLock(folder) as lock, Watchdog(hang_after, record.end_with):
            yield lock
    except HangError as error:
        raise EnvironmentFaultError(str(error)) from error
