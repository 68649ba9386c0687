"""What a machine does to a run: memory that is used up, clocks that are put back."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import SMALL, Killed, check_same, go
from processes import environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qladder.runners import checkpoint

WIDE = [
    *(
        "train",
        "dqn",
        "CartPole-v1",
        "--steps",
        "600",
        "--name",
        "run",
        "--run.threads",
        "1",
        "--run.eval-episodes",
        "1",
    ),
    *("--agent.hidden", "8192", "--replay.batch-size", "4096", "--run.learning-starts", "400"),
    *("--run.update-every", "100", "--run.checkpoint-every", "150"),
]  # the first update, after 500 agent steps, takes hundreds of megabytes


def hungry(bytes_more: int, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("hungry.py")), str(bytes_more), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(cwd), capture_output=True, text=True, check=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere memory is not limited by address space")
def test_memory_that_is_used_up_is_named_and_what_was_saved_goes_on(tmp_path: Path) -> None:
    whole = hungry(2**34, *WIDE, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    cut = hungry(2**28, *WIDE, "--out", "cut", cwd=tmp_path)
    assert cut.returncode == 1
    assert "Traceback" not in cut.stderr
    line = cut.stderr.splitlines()[-1]
    assert line.startswith("qladder: out of memory (")
    assert "--resume goes on from the newest where there is more memory" in line
    assert checkpoint.checkpoints(tmp_path / "cut" / "run")[0].name == "step-000000000450"
    again = hungry(2**34, *WIDE, "--out", "cut", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    check_same(tmp_path / "whole" / "run", tmp_path / "cut" / "run")


def test_a_clock_that_was_put_back_confuses_neither_a_run_nor_its_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every session begins a day before the one that it goes on from."""
    go(tmp_path / "whole", "q-learning", "CliffWalking-v1", SMALL)
    for session, kill_at in enumerate((800, 200, None)):
        monkeypatch.setattr(time, "time", lambda day=session: 2e9 - 86_400 * day)
        if kill_at is None:
            go(tmp_path / "cut", "q-learning", "CliffWalking-v1", SMALL, resume=True)
            continue
        with pytest.raises(Killed):
            go(tmp_path / "cut", "q-learning", "CliffWalking-v1", SMALL, kill_at=kill_at, resume=session > 0)
    monkeypatch.undo()
    runs = [tmp_path / out / "run" for out in ("whole", "cut")]
    check_same(*runs)
    curves = []
    for run in runs:
        reader = EventAccumulator(str(run), size_guidance={"scalars": 0})
        reader.Reload()
        curves.append([(event.step, event.value) for event in reader.Scalars("train/episode_return")])
    assert len(curves[0]) > 10
    assert curves[0] == curves[1]
