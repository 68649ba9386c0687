"""Registers environments that do something odd at a thirtieth step, each in its own way, once in a folder."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium

from qladder.envs.catch import Catch

AT = 30


def sleeps() -> None:
    time.sleep(1e6)


def swallows() -> None:
    """Handles whatever is raised, as a wrapper might that tries again."""
    while True:
        try:
            time.sleep(1e6)
        except Exception:
            continue


def in_c() -> None:
    """A lock that is taken twice, in C: no signal ends that."""
    mutex = ctypes.create_string_buffer(64)
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)


def is_stopped() -> None:
    """The process stands still for longer than the limit, and goes on."""
    if os.fork() == 0:
        time.sleep(4)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSTOP)


class Hanging(Catch):
    def __init__(self, way: str) -> None:
        super().__init__()
        self._way, self._count = WAYS[way], 0

    def close(self) -> None:
        if self._way is holds and Path("hung").exists() and not Path("over").exists():
            Path("over").touch()
            time.sleep(1e6)

    def step(self, action: Any) -> Any:
        self._count += 1
        if self._count == AT and (self._way is always_dies or not Path("hung").exists()):
            Path("hung").write_text("here")
            self._way()
        return super().step(action)


def waits() -> None:
    time.sleep(1.5)


def holds() -> None:
    """Its `close` waits for what does not come either."""
    sleeps()


def forks() -> None:
    """Leaves a child behind that outlives this process, which dies."""
    if os.fork() == 0:
        time.sleep(8)
        os._exit(0)
    dies()


def stops() -> None:
    """Whoever sent that: it comes while the environment steps, and this handles all exceptions."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    except Exception:
        pass


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def always_dies() -> None:
    """In whatever process."""
    dies()


def prints() -> None:
    print("the game has begun")


def fails() -> None:
    raise RuntimeError("the floor gave way")


LIVING = (waits, sleeps, swallows, in_c, is_stopped, prints, fails, holds, stops)
WAYS = {way.__name__: way for way in (*LIVING, dies, always_dies, forks)}
gymnasium.register("Hanging-v0", Hanging)
