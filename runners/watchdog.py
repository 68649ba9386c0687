"""An environment that does not come back from a step is named and ends the run, which otherwise would wait for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import qladder.envs
from qladder.envs.errors import HangError

ENVS = str(Path(qladder.envs.__file__ or "").parent)
GRACE = 5.0  # seconds in which a hanging environment must let go of the main thread
TICKS = 20  # looks within the limit
LEAST_TICK = 0.01  # seconds


class Watchdog:
    """While entered, a thread looks from time to time whether the main thread is in one and the same step or reset.

    Nothing is measured per step. After `limit` seconds `HangError` is raised in the main thread. If that does not come
    back to Python, or then hangs in closing the environment, `last_words` are called, the fault is printed, and the
    process ends with status 1. Time in which the process itself was stopped does not count. It watches nothing where
    `limit` is 0, or outside the main thread, where no signal arrives; code that hangs and keeps the interpreter to
    itself cannot be seen.

    Args:
        limit: seconds for one step or reset of one environment.
        last_words: told what happened, on the watching thread.
    """

    def __init__(self, limit: float, last_words: Callable[[str], None]) -> None:
        self._limit, self._last_words = limit, last_words
        self._main = threading.main_thread()
        self._watches = limit > 0 and threading.current_thread() is self._main
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._stuck: tuple[str, str] | None = None
        self._barked = False
        self._before: Any = None

    def __enter__(self) -> Watchdog:
        if self._watches:
            self._before = signal.signal(signal.SIGALRM, self._bark)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._watches:
            self._end.set()
            self._thread.join()
            signal.signal(signal.SIGALRM, self._before)

    def _bark(self, number: int, frame: FrameType | None) -> None:
        if self._stuck is not None and _place(frame) == self._stuck:  # it may have come back just now
            self._barked = True
            raise HangError(self._fault())

    def _watch(self) -> None:
        tick, looks, seen = max(self._limit / TICKS, LEAST_TICK), 0, None
        while not self._end.wait(tick):
            place = self._main_place()
            looks = looks + 1 if place is not None and place == seen else 0
            seen = place
            if looks >= TICKS:
                self._stuck = place
                signal.pthread_kill(self._main.ident or 0, signal.SIGALRM)
                if not self._end.wait(GRACE) and (self._barked or self._main_place() == place):
                    self._exit()

    def _exit(self) -> None:
        """The environment holds the main thread, be it in `close`."""
        try:
            self._last_words(f"failed: {self._fault()}")
            print(f"qladder: {self._fault()}; --resume goes on from the newest checkpoint", file=sys.stderr, flush=True)
        finally:
            os._exit(1)

    def _fault(self) -> str:
        id, where = self._stuck or ("", "")
        return f"{id}: no answer for {self._limit:g} seconds{where}"

    def _main_place(self) -> tuple[str, str] | None:
        return _place(sys._current_frames().get(self._main.ident or 0))


def _place(frame: FrameType | None) -> tuple[str, str] | None:
    """The environment that this frame is in, and where that is, in words that differ from step to step."""
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("step", "reset") and code.co_filename.startswith(ENVS):
            env: Any = frame.f_locals.get("self")
            if hasattr(env, "place"):
                return env.spec.id, env.place()
        frame = frame.f_back
    return None
