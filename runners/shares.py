"""Where a run's time goes: a thread looks from time to time at what the main thread is doing."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from types import FrameType

PERIOD = 0.05  # seconds between two looks
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PARTS = {  # what a function of these names, in these folders, is part of; the innermost one counts
    ("envs", "step"): "environment",
    ("envs", "reset"): "environment",
    ("agents", "act"): "acting",
    ("agents", "learn"): "learning",
    ("replay", "add"): "replay",
    ("replay", "sample"): "replay",
    ("replay", "draw"): "replay",
    ("replay", "update"): "replay",
}
WHOLE = {  # functions of training.py, with all that they call
    "_evaluate": "evaluation",
    "_finish": "evaluation",
    "_save": "saving",
    "_keep": "saving",
    "_spool": "saving",
    "_health": "health",
    "_log": "logging",
}


class Shares:
    """While entered, counts what the thread that entered is doing, at every look; nothing is measured per step."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="shares", daemon=True)
        self._whose = threading.get_ident()

    def __enter__(self) -> Shares:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def take(self) -> dict[str, float]:
        """The share of each part, `time/share_...`, since the last time; nothing if there was no look."""
        with self._lock:
            seen, self._seen = self._seen, Counter()
        looks = seen.total()
        return {f"time/share_{part}": count / looks for part, count in sorted(seen.items())}

    def _look(self) -> None:
        while not self._end.wait(PERIOD):
            part = _part(sys._current_frames().get(self._whose))
            with self._lock:
                self._seen[part] += 1


def _part(frame: FrameType | None) -> str:
    """What is being done in this frame: the innermost part, but all of an evaluation as one."""
    innermost = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(ROOT):
            place, file = os.path.split(code.co_filename)
            folder = os.path.basename(place)
            if (folder, file) == ("runners", "training.py") and code.co_name in WHOLE:
                return WHOLE[code.co_name]
            innermost = innermost or PARTS.get((folder, code.co_name))
        frame = frame.f_back
    return innermost or "other"
