"""Checkpoints whose files were cut, flipped, exchanged, lost or lengthened: every one of some hundreds is detected."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from qladder.runners import checkpoint, train
from qladder.runners.checkpoint import BadCheckpointError
from qladder.runners.loading import load_run

RUN = {"steps": 600, "checkpoint_every": 200, "eval_every": 1_000, "eval_episodes": 1, "log_every": 100}
LEARNS = {"learning_starts": 100, "update_every": 8}
CUTS, FLIPS = 12, 48  # of each file


@pytest.fixture(scope="module", params=["dqn", "q-learning"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two good checkpoints."""
    out = tmp_path_factory.mktemp("corruption")
    if request.param == "dqn":
        settings = {"run": {**RUN, **LEARNS}, "agent": {"hidden": [8]}, "replay": {"capacity": 400}}
        train("dqn", "CartPole-v1", settings=settings, out=out, name="run")
    else:
        train("q-learning", "FrozenLake-v1", settings={"run": RUN}, out=out, name="run")
    return out / "run"


def corruptions(file: Path, others: list[Path]) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What can befall a file."""
    content = file.read_bytes()
    rng = np.random.default_rng(len(content))
    for length in [*rng.integers(0, len(content), CUTS - 2).tolist(), 0, len(content) - 1]:
        yield f"cut to {length}", lambda path, length=length: path.write_bytes(content[:length])
    for bit in rng.choice(8 * len(content), FLIPS, replace=False).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", lambda path, flipped=flipped: path.write_bytes(flipped)
    yield "longer by a byte", lambda path: path.write_bytes(content + b"\n")
    yield "a hole of zeros", lambda path: path.write_bytes(content[:-64] + bytes(64))
    yield "twice", lambda path: path.write_bytes(content + content)
    yield "missing", lambda path: path.unlink()
    yield "a folder", lambda path: (path.unlink(), path.mkdir())
    for other in others:
        if other.read_bytes() != content:
            yield f"in place of {other.parent.name}/{other.name}", lambda path, o=other: shutil.copy(o, path)


def test_every_corruption_is_detected_and_the_checkpoint_before_is_taken(run: Path) -> None:
    newest, before = checkpoint.checkpoints(run)
    reached = int(before.name.removeprefix("step-"))
    only_new = sorted(set(checkpoint.segments_of(newest)) - set(checkpoint.segments_of(before)))
    segments = [newest.parent / "segments" / name for name in only_new]
    assert segments or run.name != "dqn"
    files = [*sorted(newest.iterdir()), *segments]
    others = [*files, *sorted(before.iterdir())]
    tried = 0
    for file in files:
        content = file.read_bytes()
        for name, corrupt in corruptions(file, others):
            corrupt(file)
            with pytest.raises(BadCheckpointError):
                checkpoint.load(newest)
            if tried % 40 == 0 and file not in segments:
                assert load_run(run)[2] == reached, (file.name, name)
            tried += 1
            if file.is_dir():
                file.rmdir()
            file.write_bytes(content)
        checkpoint.load(newest)
    assert tried >= (240 if segments else 180)


def test_a_whole_checkpoint_of_another_run_is_told(run: Path, tmp_path: Path) -> None:
    """Nothing in it is damaged."""
    from qladder.envs.errors import UserError

    train("sarsa", "CliffWalking-v1", settings={"run": RUN}, out=tmp_path, name="other")
    copy = shutil.copytree(run, tmp_path / "copy")
    for path in checkpoint.checkpoints(copy):
        shutil.rmtree(path)
    shutil.copytree(checkpoint.checkpoints(tmp_path / "other")[0], copy / "checkpoints" / "step-000000000600")
    with pytest.raises(UserError, match="is of other settings or another version of qladder"):
        load_run(copy)
