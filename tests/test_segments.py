"""Parts of a state that seldom change: written once, shared, verified, and dropped when nobody refers to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import DEEP, EIGHT, SEQUENCES, SMALL, Killed, check_same, go

from qladder.envs.errors import DivergedError
from qladder.replay.types import Versioned
from qladder.runners import checkpoint, load
from qladder.runners.checkpoint import BadCheckpointError
from qladder.runners.segments import Segments
from qladder.runners.settings import merge


def part(version: int, settled: bool = True) -> Versioned:
    return Versioned(version=version, settled=settled, arrays={"x": np.full(9, version), "y": np.eye(2)})


def state(*versions: int) -> dict[str, Any]:
    """Parts 0, 1, ... whose content follows from their version."""
    parts = {f"p{i}": part(v) for i, v in enumerate(versions)}
    return {"replay": parts, "n": len(versions)}


def files(run: Path) -> dict[str, int]:
    """Segments as part and version, with what tells whether one was written anew."""
    folder = run / "checkpoints" / "segments"
    return {path.name.removeprefix("replay.")[:4]: path.stat().st_ino for path in folder.iterdir()}


def check(path: Path, *versions: int) -> None:
    parts = checkpoint.load(path)["replay"]
    assert [part["version"] for part in parts.values()] == list(versions)
    for part, version in zip(parts.values(), versions, strict=True):
        assert np.array_equal(part["arrays"]["x"], np.full(9, version))
        assert sorted(part["arrays"]) == ["x", "y"]


def test_only_what_changed_is_written_and_what_nobody_needs_is_dropped(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "checkpoints")
    one = checkpoint.save(tmp_path, 1, state(4, 7), segments)
    first = files(tmp_path)
    two = checkpoint.save(tmp_path, 2, state(4, 8, 1), segments)
    second = files(tmp_path)
    assert sorted(second) == ["p0-4", "p1-7", "p1-8", "p2-1"]
    assert first.items() <= second.items()
    check(one, 4, 7)
    check(two, 4, 8, 1)
    three = checkpoint.save(tmp_path, 3, state(5, 8, 1), segments)
    assert sorted(files(tmp_path)) == ["p0-4", "p0-5", "p1-8", "p2-1"]
    check(two, 4, 8, 1)
    check(three, 5, 8, 1)


def test_a_time_that_did_not_count_leaves_no_segments(tmp_path: Path) -> None:
    """Whoever goes on from a checkpoint knows its segments, writes them once, and drops those of later checkpoints."""
    segments, again = (Segments(tmp_path / "checkpoints") for _ in range(2))
    one = checkpoint.save(tmp_path, 1, state(4, 7), segments)
    before = files(tmp_path)
    checkpoint.save(tmp_path, 2, state(4, 9), segments)
    checkpoint.drop_after(tmp_path, 1)
    checkpoint.load(one, again)
    two = checkpoint.save(tmp_path, 2, state(4, 8), again)
    assert sorted(files(tmp_path)) == ["p0-4", "p1-7", "p1-8"]
    assert before.items() <= files(tmp_path).items()
    check(one, 4, 7)
    check(two, 4, 8)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "swap"])
def test_a_damaged_segment_is_refused_and_other_checkpoints_are_not(tmp_path: Path, damage: str) -> None:
    segments, folder = Segments(tmp_path / "checkpoints"), tmp_path / "checkpoints" / "segments"
    one = checkpoint.save(tmp_path, 1, state(4, 7), segments)
    two = checkpoint.save(tmp_path, 2, state(4, 8), segments)
    (other,), (path,) = (list(folder.glob(f"replay.p1-{version}-*")) for version in (7, 8))
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "swap":
        path.write_bytes(other.read_bytes())
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data if damage == "flip" else data[:-3])
    with pytest.raises(BadCheckpointError, match="p1-8"):
        checkpoint.load(two)
    check(one, 4, 7)


def test_what_has_settled_is_written_in_good_time(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "checkpoints")
    tree = {"replay": {"p0": part(4), "p1": part(7, settled=False)}, "n": 2}
    segments.spool(tree)
    before = files(tmp_path)
    assert list(before) == ["p0-4"]
    path = checkpoint.save(tmp_path, 1, tree, segments)
    assert sorted(files(tmp_path)) == ["p0-4", "p1-7"]
    assert before.items() <= files(tmp_path).items()
    check(path, 4, 7)


def test_what_is_written_in_good_time_is_dropped_when_it_is_written_anew(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "checkpoints")
    one = checkpoint.save(tmp_path, 1, state(4, 7), segments)
    for version in (8, 9, 10):
        checkpoint.spool(tmp_path, state(4, version), segments)
        assert sorted(files(tmp_path)) == sorted(["p0-4", "p1-7", f"p1-{version}"[:4]])
    two = checkpoint.save(tmp_path, 2, state(4, 10), segments)
    check(one, 4, 7)
    check(two, 4, 10)


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    bad = Versioned(version=1, settled=True, arrays={"x": np.array([0.0, np.nan])})
    with pytest.raises(DivergedError, match=r"replay\.p\.x \[2\]"):
        checkpoint.save(tmp_path, 1, {"replay": {"p": bad}})
    assert checkpoint.checkpoints(tmp_path) == []


def test_recurrent_states_are_parts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence begins at every tenth slot, with 16 numbers each: parts of two sequences."""
    monkeypatch.setattr("qladder.replay.sequences.CHUNK_BYTES", 2 * 16 * 4)
    settings = merge(SMALL, merge(DEEP, SEQUENCES))
    go(tmp_path / "whole", "r2d2", "CartPole-v1", settings)
    for start, kill_at in enumerate((800, 250)):
        with pytest.raises(Killed):
            go(tmp_path / "cut", "r2d2", "CartPole-v1", settings, kill_at=kill_at, resume=start > 0)
    run = tmp_path / "cut" / "run"
    states = [
        {file for file in checkpoint.segments_of(path) if ".states." in file} for path in checkpoint.checkpoints(run)
    ]
    assert all(len(files) > 30 for files in states)
    assert 20 < len(states[0] & states[1]) < len(states[0])
    go(tmp_path / "cut", "r2d2", "CartPole-v1", settings, resume=True)
    check_same(tmp_path / "whole" / "run", run)


def test_a_replay_in_many_parts_is_killed_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings of 112 slots, each in parts of 16: of two checkpoints in a row most parts are the same."""
    monkeypatch.setattr("qladder.replay.recorder.CHUNK_BYTES", 256)
    settings = merge(SMALL, {**DEEP, **EIGHT})
    go(tmp_path / "whole", "dqn", "CartPole-v1", settings)
    with pytest.raises(Killed):
        go(tmp_path / "cut", "dqn", "CartPole-v1", settings, kill_at=800)
    run = tmp_path / "cut" / "run"
    newest, before = (set(checkpoint.segments_of(path)) for path in checkpoint.checkpoints(run))
    assert 8 * 6 <= len(newest) <= 8 * 7
    assert 8 * 4 <= len(newest & before) < len(newest)
    go(tmp_path / "cut", "dqn", "CartPole-v1", settings, resume=True)
    check_same(tmp_path / "whole" / "run", run)
    assert len(load(run).agent._replay) == 0  # type: ignore[attr-defined]  # who only plays needs none
