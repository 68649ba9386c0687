"""One process at a time on a run, and none that lost it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from killing import SMALL, go, told

from qladder.envs.errors import LostLockError, UserError
from qladder.runners import checkpoint
from qladder.runners.lock import unused
from qladder.runners.loop import Episodes
from qladder.runners.settings import merge
from qladder.runners.verify import verify


def test_one_process_at_a_time_is_at_work_on_a_run(tmp_path: Path) -> None:
    settings = {"run": {"steps": 200, "eval_episodes": 1}}
    go(tmp_path, "random", "CartPole-v1", settings)
    holder = "import sys; from pathlib import Path; from qladder.runners.lock import RunLock\n"
    holder += "with RunLock(Path(sys.argv[1])): input()"
    command = [sys.executable, "-c", holder, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while (tmp_path / "run" / ".lock").read_text().split()[:2] != ["2", str(process.pid)]:
            assert time.monotonic() < deadline
        with pytest.raises(UserError, match=f"run: process {process.pid} on .* is at work on this run"):
            go(tmp_path, "random", "CartPole-v1", {"run": {**settings["run"], "steps": 300}}, resume=True)
        with pytest.raises(UserError, match=f"run: process {process.pid} on .* is at work on this run$"):
            verify(tmp_path / "run")
        process.kill()
    with unused(tmp_path / "run"), pytest.raises(UserError, match="at work on this run, or one verifies it"):
        go(tmp_path, "random", "CartPole-v1", {"run": {**settings["run"], "steps": 300}}, resume=True)
    assert verify(tmp_path / "run")["identical"]
    go(tmp_path, "random", "CartPole-v1", {"run": {**settings["run"], "steps": 300}}, resume=True)


LATE = 10_000
FIRST = {
    "log": {"eval_every": LATE, "checkpoint_every": LATE},
    "evaluation": {"log_every": LATE, "checkpoint_every": LATE},
    "checkpoint": {"log_every": LATE, "eval_every": LATE},
}


@pytest.mark.parametrize("first", [*FIRST])
def test_whoever_lost_the_lock_writes_no_more(first: str, tmp_path: Path) -> None:
    """As where two machines share a file system that shares no locks; whatever is the first to be written then."""
    settings = merge(SMALL, {"run": FIRST[first]})
    add, count = Episodes.add, [0]

    def other_machine(episodes: Episodes, time_step: Any) -> None:
        count[0] += 1
        if count[0] == 160:
            (tmp_path / "run" / ".lock").write_text("7 1234 elsewhere\n")
        add(episodes, time_step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Episodes, "add", other_machine)
        with pytest.raises(LostLockError, match="process 1234 on elsewhere has taken this run over"):
            go(tmp_path, "q-learning", "CliffWalking-v1", settings)
    assert all(path.name == "step-000000000150" for path in checkpoint.checkpoints(tmp_path / "run"))
    assert all(line["agent_steps"] <= 150 for line in told(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["exit_reason"] is None
