"""A save that is cut off before or after any of its steps on the disk leaves the old checkpoint or the new one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import Killed

from qladder.replay.types import Versioned
from qladder.runners import checkpoint
from qladder.runners.checkpoint import BadCheckpointError
from qladder.runners.segments import Segments

STEPS = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync", "open")


def state(number: int) -> dict[str, Any]:
    """One part is the same in all, one differs in each, one in every second."""
    versions = {"same": 1, "new": number, "half": number // 2}
    parts = {k: Versioned(version=v, settled=True, arrays={"x": np.full(3, v)}) for k, v in versions.items()}
    return {"number": number, "weights": np.full(5, number), "parts": parts}


def newest(run: Path, segments: Segments) -> int:
    """The number of the newest good checkpoint, 0 where there is none."""
    for path in checkpoint.checkpoints(run):
        try:
            found = checkpoint.load(path, segments)
        except BadCheckpointError:
            continue
        number = int(found["number"])
        assert path.name == f"step-{number:012d}"
        assert np.array_equal(found["weights"], np.full(5, number))
        for name, part in state(number)["parts"].items():
            assert np.array_equal(found["parts"][name]["arrays"]["x"], part["arrays"]["x"])
        return number
    return 0


class Failpoint:
    """Ends everything before or after the step of this number."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, after: bool) -> None:
        self._left, self._after = number, after
        self.passed: list[str] = []
        for name in STEPS:
            patch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.passed.append(name)
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            try:
                return real(*args, **kwargs)
            finally:  # a step that fails is one, too
                if self._left == 0:
                    raise Killed

        return step


def cut_off(run: Path, number: int, after: bool) -> tuple[int, bool, list[str]]:
    """How many of five saves were whole when it was cut off, whether it was, and the steps that were taken."""
    segments, whole = Segments(run / "checkpoints"), 0
    with pytest.MonkeyPatch.context() as patch:
        failpoint = Failpoint(patch, number, after)
        try:
            for whole in range(5):
                checkpoint.save(run, whole + 1, state(whole + 1), segments)
        except Killed:
            return whole, True, failpoint.passed
    return 5, False, failpoint.passed


@pytest.mark.parametrize("after", [False, True])
def test_there_is_always_the_old_checkpoint_or_the_new_one(after: bool, tmp_path: Path) -> None:
    passed: list[str] = []
    for number in itertools.count(1):
        run = tmp_path / str(number)
        whole, killed, steps = cut_off(run, number, after)
        if not killed:
            passed = steps
            break
        segments = Segments(run / "checkpoints")
        found = newest(run, segments)
        assert whole <= found <= whole + 1, (number, steps[-1])
        assert found == 0 or checkpoint.checkpoints(run)[0].name == f"step-{found:012d}"  # what has its name is whole
        checkpoint.drop_after(run, found)
        for next_ in range(found + 1, 7):
            checkpoint.save(run, next_, state(next_), segments)
        assert newest(run, Segments(run / "checkpoints")) == 6
        kept = checkpoint.checkpoints(run)
        assert [path.name for path in kept] == ["step-000000000006", "step-000000000005"]
        used = {file for path in kept for file in checkpoint.segments_of(path)}
        assert {path.name for path in (run / "checkpoints" / "segments").iterdir()} == used
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
            "segments",
            "step-000000000005",
            "step-000000000006",
        ]
    assert number == len(passed) + 1 > 80
    assert {"rename", "unlink", "rmdir", "mkdir", "fsync", "open"} <= set(passed)
