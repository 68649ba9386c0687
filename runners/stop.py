"""Ctrl-C, SIGTERM and a closed terminal as a wish that the training loop looks at, or as the end of an evaluation."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StoppedError(BaseException):
    """Somebody stopped what goes on; no `Exception`, which an environment in whose step it comes might handle."""


class Stop:
    """While entered, the first SIGINT, SIGTERM or SIGHUP is noted, or raised within `at_once`; a second acts as always.

    SIGHUP stays ignored where it was, as under `nohup`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str:
        """`interrupted` or `terminated`."""
        return "interrupted" if self.signal == signal.SIGINT else "terminated"

    def check(self) -> None:
        """StoppedError where a stop was noted."""
        if self.signal is not None:
            raise StoppedError(self.reason)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a stop raises `StoppedError`, also one that was noted before."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._put_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._put_back()
        if self._at_once:
            raise StoppedError(self.reason)

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
