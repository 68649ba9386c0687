"""Environments that do not come back end the run by name; each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from processes import hanging, qladder

RUN = ("--steps", "60", "--run.checkpoint-every", "10", "--run.eval-every", "1000", "--name", "it")


@pytest.mark.parametrize("way", ["sleeps", "swallows", "in_c", "holds"])
def test_an_environment_that_hangs_is_named_and_the_run_can_go_on(way: str, tmp_path: Path) -> None:
    play = ("train", "random", f"{hanging(tmp_path)}:Hanging-v0", "--env.kwargs.way", way, "--run.hang-after", "3")
    done = qladder(*play, *RUN, cwd=tmp_path, timeout=30)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("qladder: ")]
    fault = "hanging:Hanging-v0: no answer for 3 seconds (environment 0, its step 30, episode 3, episode seed "
    assert line.startswith(f"qladder: {fault}")
    assert "--resume goes on" in line
    assert "Traceback" not in done.stderr
    run = tmp_path / "runs" / "it"
    assert json.loads((run / "manifest.json").read_text())["exit_reason"].startswith("failed: ")
    assert fault in json.loads((run / "manifest.json").read_text())["exit_reason"]
    again = qladder(*play, *RUN, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "going on from runs/it/checkpoints/step-000000000020" in again.stderr


def test_time_in_which_the_process_was_stopped_does_not_count(tmp_path: Path) -> None:
    play = ("train", "random", f"{hanging(tmp_path)}:Hanging-v0", "--env.kwargs.way", "is_stopped")
    done = qladder(*play, *RUN, "--run.hang-after", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["agent_steps"] == 60


def test_without_a_limit_nothing_is_watched(tmp_path: Path) -> None:
    play = ("train", "random", f"{hanging(tmp_path)}:Hanging-v0", "--env.kwargs.way", "waits")
    assert qladder(*play, *RUN, "--run.hang-after", "0", cwd=tmp_path).returncode == 0
    (tmp_path / "hung").unlink()
    assert qladder(*play, *RUN, "--run.hang-after", "0.5", "--out", "other", cwd=tmp_path).returncode == 1
