"""Training that starts itself again: a process of its own for every attempt, until one ends as it should."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from qladder.runners import checkpoint
from qladder.runners.command_line import STATUS
from qladder.runners.progress import say

RESTARTS = 10
WITHOUT_PROGRESS = 2  # restarts in a row that may die before they have made a checkpoint
WANTED = {*STATUS.values(), 2}  # ends that another attempt would not better: finished, stopped, bad input
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def train_until_done(arguments: Sequence[str], folder: Path, *, resume: bool) -> int:
    """Runs `qladder train` with these arguments; where it dies, again with `--resume`. The last attempt's exit status.

    It is started again at most ten times, and not after two restarts in a row that made no checkpoint. A status of 2,
    bad input, ends it, as do Ctrl-C and SIGTERM, which the attempt that is under way receives.
    """
    restarts = idle = 0
    while True:
        before = _newest(folder)
        status, stopped = _attempt([*arguments, *(["--resume"] if resume or restarts else [])])
        if status in WANTED or stopped:
            return _shell(status)
        idle = 0 if _newest(folder) > before else idle + (restarts > 0)
        died = f"died of signal {signal.Signals(-status).name}" if status < 0 else f"failed with status {status}"
        if restarts == RESTARTS or idle == WITHOUT_PROGRESS:
            say(f"{folder}: {died}; given up after {restarts} restarts, {idle} of them in a row without a checkpoint")
            return _shell(status)
        restarts += 1
        say(f"{folder}: {died}; restart {restarts} of at most {RESTARTS}")


def _attempt(arguments: Sequence[str]) -> tuple[int, bool]:
    """The exit status (negative: the signal that killed it), and whether somebody stopped it."""
    stopped: list[int] = []
    early: list[int] = []  # before there was anyone to pass it on to
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    before = {n: signal.signal(n, pass_on) for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
    try:
        process = subprocess.Popen([sys.executable, "-m", "qladder.runners", *arguments], start_new_session=True)
        for number in early:
            process.send_signal(number)
        return process.wait(), bool(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shell(status: int) -> int:
    """As a shell tells it: 128 and the number of the signal that killed it."""
    return status if status >= 0 else 128 - status


def _newest(folder: Path) -> str:
    """The name of the newest checkpoint, which grows with its agent steps; empty where there is none."""
    return max((path.name for path in checkpoint.checkpoints(folder)), default="")
