"""Training that starts itself again after a death, not for ever, and not when somebody stopped it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from killing import told
from processes import hanging, qladder, stopped

RUN = ("--steps", "100", "--run.checkpoint-every", "10", "--run.eval-every", "1000", "--run.log-every", "10")


KILLED = "died of signal SIGKILL"


@pytest.mark.parametrize(("way", "said"), [("dies", KILLED), ("forks", KILLED), ("fails", "failed with status 1")])
def test_a_run_that_dies_once_ends_as_if_it_had_not(way: str, said: str, tmp_path: Path) -> None:
    play = ("train", "random", f"{hanging(tmp_path)}:Hanging-v0", "--env.kwargs.way", way, *RUN, "--json")
    done = qladder(*play, "--name", "it", "--until-done", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"runs/it: {said}; restart 1 of at most 10" in done.stderr
    assert json.loads(done.stdout)["exit_reason"] == "finished"
    assert qladder(*play, "--name", "whole", cwd=tmp_path).returncode == 0  # it has died before and does not again
    assert told(tmp_path / "runs" / "it") == told(tmp_path / "runs" / "whole")


def test_it_gives_up_where_nothing_is_gained(tmp_path: Path) -> None:
    play = ("train", "random", f"{hanging(tmp_path)}:Hanging-v0", "--env.kwargs.way", "always_dies")
    done = qladder(*play, *RUN, "--run.checkpoint-every", "50", "--name", "it", "--until-done", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGKILL
    last = done.stderr.splitlines()[-1]
    assert last == "runs/it: died of signal SIGKILL; given up after 2 restarts, 2 of them in a row without a checkpoint"


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    done = qladder("train", "dqn", "CartPole-v1", "--steps", "-1", "--until-done", cwd=tmp_path)
    assert done.returncode == 2
    assert "restart" not in done.stderr


def test_whoever_stops_it_stops_the_run(tmp_path: Path) -> None:
    play = ("train", "q-learning", "CliffWalking-v1", "--steps", "100000000", "--name", "it", "--until-done")
    status, error = stopped(signal.SIGTERM, *play, cwd=tmp_path, ready=tmp_path / "runs" / "it" / "metrics.jsonl")
    assert status == 143
    assert "restart" not in error
    manifest = json.loads((tmp_path / "runs" / "it" / "manifest.json").read_text())
    assert manifest["exit_reason"] == "terminated"


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    play = ("train", "random", f"{hanging(tmp_path)}:Hanging-v0", "--env.kwargs.way", "sleeps", "--run.log-every", "10")
    ready = tmp_path / "hung"
    status, _ = stopped(signal.SIGTERM, *play, "--name", "it", "--until-done", cwd=tmp_path, ready=ready, times=2)
    assert status == 143
