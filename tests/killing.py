"""Small runs that are cut off where nothing is saved, and whether two runs are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qladder.runners import checkpoint, train
from qladder.runners.loop import Episodes
from qladder.runners.settings import Table

RUN = {"steps": 1_200, "log_every": 70, "eval_every": 400, "eval_episodes": 2, "checkpoint_every": 150}
SMALL: Table = {"run": RUN, "env": {}, "agent": {}}
DEEP: Table = {
    "run": {"learning_starts": 300, "update_every": 4},
    "agent": {"hidden": [16]},
    "replay": {"capacity": 900},
}
SEQUENCES: Table = {"agent": {"core_size": 8}, "replay": {"capacity": 900}}
EIGHT: Table = {"env": {"num_envs": 8}}


class Killed(BaseException):
    """Nothing of a run may handle it, and nothing is saved."""


def go(out: Path, agent: str, env: str, settings: Table, kill_at: int | None = None, **kwargs: Any) -> dict[str, Any]:
    """One start of a run in `out`, cut off after so many agent steps."""
    with pytest.MonkeyPatch.context() as patch:
        if kill_at is not None:
            add, left = Episodes.add, [kill_at]

            def killing(episodes: Episodes, time_step: Any) -> None:
                left[0] -= np.size(time_step.reward)
                if left[0] < 0:
                    raise Killed
                add(episodes, time_step)

            patch.setattr(Episodes, "add", killing)
        return train(agent, env, settings=settings, out=out, name="run", **kwargs)


def told(run: Path) -> list[dict[str, Any]]:
    """All measurements but those of time."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def same(a: Any, b: Any) -> bool:
    """Whether two states are the same, bit for bit, but for what lies under `time`."""
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items() if k != "time")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "shape"):
        return bool(a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b)))
    return bool(a == b)


def check_same(one: Path, other: Path) -> None:
    assert told(one) == told(other)
    newest, again = (checkpoint.checkpoints(run)[0] for run in (one, other))
    assert newest.name == again.name
    assert same(checkpoint.load(newest), checkpoint.load(again))
