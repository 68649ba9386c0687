"""Files that cannot be written, and files that were changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import limited
import pytest
from killing import SMALL, Killed, check_same, go, told

from qladder.envs.errors import UserError
from qladder.runners import checkpoint, train


def test_a_disk_that_is_full_ends_a_run_by_name_and_loses_nothing(tmp_path: Path) -> None:
    """Files may grow to one of twenty sizes only, and then, as on a full disk, no more; the resumed run is whole."""
    limited.main(tmp_path, 100_000)
    settings = (tmp_path / "100000" / "run" / "config.toml").stat().st_size
    limits = [100, 600, settings + 20, 1_100, 1_500, 2_000, 2_300, 2_500, 2_800, 3_000, 3_500, 4_000, 5_000, 6_500]
    limits += [8_000, 11_000, 14_000, 17_000, 20_000, 23_000]
    command = [sys.executable, str(Path(__file__).with_name("limited.py")), str(tmp_path), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ended = dict(map(json.loads, done.stdout.splitlines()))
    named = {Path(why.partition(":")[0]).name for why in ended.values()}
    assert {"config.toml", "manifest.json", "metrics.jsonl"} <= named
    assert any(name.startswith("step-") for name in named)
    for limit, why in ended.items():
        assert why.endswith("File too large")
        run = tmp_path / str(limit) / "run"
        assert not list(run.rglob("*writing*"))
        assert all(checkpoint.load(path) for path in checkpoint.checkpoints(run))
        train("q-learning", "CliffWalking-v1", settings={"run": limited.RUN}, out=run.parent, name="run", resume=True)
        check_same(tmp_path / "100000" / "run", run)


def test_measurements_that_were_changed_are_found(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, kill_at=700)
    path = tmp_path / "run" / "metrics.jsonl"
    whole = path.read_bytes()
    for damaged in (whole[:50], whole[:1] + b"#" + whole[2:], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"metrics.jsonl: its first [\d,]+ bytes are not those"):
            go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
        assert path.read_bytes() == damaged
    path.unlink()
    go(tmp_path, "q-learning", "CliffWalking-v1", SMALL, resume=True)
    assert told(tmp_path / "run")[0]["agent_steps"] > 600
